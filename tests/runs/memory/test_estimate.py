"""Predicted memory against real steps and real encoders, and what moves it."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch

from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Source, WeightsNotFound
from frisket.families.shared.qwen_references import area_of
from frisket.losses import base
from frisket.runs.memory import estimate
from frisket.runs.memory.conditioning_shapes import build_conditioning, picture
from frisket.runs.memory.estimate import predict
from frisket.training import optim
from frisket.training.memory.dry_run import LiveBytes, Rehearsal

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "memory_prediction.py"
WITHIN = 0.10


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("memory_prediction", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny models on disk, each written once."""
    known = {}

    def folder(family: str) -> tuple[str, Path]:
        if family not in known:
            shelf = FAMILIES.load(family)
            variant = next(iter(shelf.variants))
            path = tmp_path_factory.mktemp(family)
            shelf.save(shelf.tiny(variant), path)
            known[family] = variant, path
        return known[family]

    return folder


@pytest.fixture(autouse=True)
def whole_maps(monkeypatch):
    """The loss works as on an accelerator, not in slabs that fit a CPU's cache."""
    monkeypatch.setattr(base, "CACHE_ELEMENTS", 1 << 40)


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize(
    "family",
    [
        name if name in ("wan", "sd3") else pytest.param(name, marks=pytest.mark.slow)
        for name in FAMILIES.names()
    ],
)
def test_a_step_of_every_family(family, benchmark, folders):
    variant, folder = folders(family)
    config = benchmark.config_for(family, variant, "checkpointing", folder, scale=8)
    assert predict(config, prepare=False).training == pytest.approx(
        benchmark.alive(config), rel=WITHIN
    )


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize(
    "case",
    [
        pytest.param("plain", marks=pytest.mark.slow),
        "batch 2, prior",
        "bfloat16",
        "all weights",
        pytest.param("all weights, bfloat16", marks=pytest.mark.slow),
    ],
)
def test_other_ways_to_train(case, benchmark, folders):
    variant, folder = folders("wan")
    config = benchmark.config_for("wan", variant, case, folder)
    found = predict(config, prepare=False).training
    assert found == pytest.approx(benchmark.alive(config), rel=WITHIN)
    assert found == pytest.approx(benchmark.allocated(config), rel=WITHIN)


def test_a_quantised_base(benchmark, folders):
    variant, folder = folders("wan")
    config = benchmark.config_for("wan", variant, "checkpointing", folder)
    memory = config.memory.model_copy(update={"quantise": "nf4"})
    config = config.model_copy(update={"memory": memory})
    assert predict(config, prepare=False).training == pytest.approx(
        benchmark.alive(config), rel=WITHIN
    )


def test_encoders_at_prepare(benchmark, folders):
    variant, folder = folders("wan")
    config = benchmark.config_for("wan", variant, "plain", folder, scale=4)
    found = predict(config)
    shelf, source = FAMILIES.load("wan"), Source(variant, str(folder))
    vae, text = shelf.load_vae(source), shelf.load_text(source)
    with LiveBytes() as live:
        live.hold(vae.parameters())
        shelf.encode(vae, torch.zeros(1, 3, 5, 64, 64))
    assert found.vae == pytest.approx(live.peak / 2**20, rel=WITHIN)
    with LiveBytes() as live:
        live.hold(text.parameters())
        shelf.embed(text, [estimate.CAPTION])
    assert found.text == pytest.approx(live.peak / 2**20, rel=WITHIN)


def asked(**sections) -> Config:
    model = {"family": "wan", "variant": "2.1-t2v-1.3b", "dtype": "bfloat16"}
    tree = {"model": model, "run": {"precision": "bfloat16"}, "memory": {"checkpointing": True}}
    tree["data"] = [{"clips": "clips", "resolution": [256, 256], "frames": 5}]
    for name, values in sections.items():
        tree[name] = {**tree.get(name, {}), **values}
    return Config.model_validate(tree)


@pytest.mark.slow
def test_a_released_model_without_its_weights():
    found = predict(asked(), prepare=False)
    assert found.weights == pytest.approx(1.42e9 * 2 / 2**20, rel=0.02)
    assert found.latents == (1, 16, 2, 32, 32)
    assert found.blocks == 30
    assert found.total == found.training
    swapped = asked(memory={"checkpointing": True, "swap_blocks": 30})
    waiting = predict(swapped, prepare=False)
    assert waiting.weights < found.weights / 8
    assert waiting.waiting == pytest.approx(found.weights, rel=0.1)


def test_every_switch_does_what_it_is_for(benchmark, folders):
    variant, folder = folders("wan")

    def found(**sections):
        tree = benchmark.config_for("wan", variant, "checkpointing", folder).model_dump()
        for name, values in sections.items():
            tree[name] |= values
        return predict(Config.model_validate(tree), prepare=False)

    plain = found()
    assert found(memory={"checkpointing": False}).activations > 1.5 * plain.activations
    assert found(memory={"quantise": "nf4"}).weights < plain.weights / 1.5
    assert found(memory={"storage": "float8"}).weights < plain.weights / 1.5
    swapped = found(memory={"swap_blocks": 2})
    assert swapped.waiting > 0 == plain.waiting
    assert swapped.activations == plain.activations
    assert found(lora={"rank": 16}).adapter == 2 * plain.adapter
    assert found(optimizer={"ema": 0.9}).optimizer == 1.5 * plain.optimizer
    assert found(run={"batch": 2}).activations > 1.5 * plain.activations


def test_encoders_that_are_not_here_are_said_to_be_unknown(folders, tmp_path):
    _, folder = folders("wan")
    shutil.copytree(folder / "transformer", tmp_path / "transformer")
    found = predict(asked(model={"source": str(tmp_path)}, memory={"checkpointing": False}))
    assert found.vae is None
    assert found.text is None
    assert found.training > 0


def test_a_model_whose_shape_is_not_known(tmp_path):
    with pytest.raises(WeightsNotFound, match="is not there"):
        predict(asked(model={"source": str(tmp_path / "gone")}))


@pytest.mark.parametrize("name", ["adamw", "prodigy", "schedulefree", "muon", "sgd", "adafactor"])
def test_optimizer_state_by_name(name):
    parameters = {
        "lora_A": torch.nn.Parameter(torch.randn(16, 512)),
        "lora_B": torch.nn.Parameter(torch.randn(512, 16)),
    }
    optimizer = optim.build(parameters, optim.OptimizerSpec(name))
    optim.mode(optimizer, training=True)
    for value in parameters.values():
        value.grad = torch.randn_like(value)
    optimizer.step()
    parts = getattr(optimizer, "parts", (optimizer,))
    states = [state for part in parts for state in part.state.values()]
    tensors = [each for state in states for each in state.values() if torch.is_tensor(each)]
    count = sum(value.numel() for value in parameters.values())
    assert sum(each.nbytes for each in tensors) / count == pytest.approx(
        estimate.STATE[name], rel=0.15
    )


def test_live_bytes_are_those_of_storages():
    with LiveBytes() as live:
        one = torch.zeros(1024)
        view = one[:10]
        assert live.now == 4096
        del one
        assert live.now == 4096
        del view
        assert live.now == 0
    assert live.peak == 4096


def test_small_tensors_stay_real_in_a_rehearsal():
    with Rehearsal():
        mask = torch.tensor([1, 1, 0]).to("meta")
        assert int(mask.sum()) == 2
        text = torch.empty(3, 8, device="meta")
        assert text[mask.bool()].shape == (2, 8)
        assert (text + mask[:, None]).device.type == "meta"


def conditioning(family: str, variant: str, folder: str = "", batch: int = 2) -> dict:
    """Shapes that the prediction takes for what a denoiser is told, of 64 x 64 pixels."""
    shelf, source = FAMILIES.load(family), Source(variant, folder, device="meta")
    given = build_conditioning(shelf, source, shelf.load_denoiser(source), (1, 64, 64), batch)
    return {name: tuple(value.shape) for name, value in given.items()}


def test_both_texts_of_sdxl_are_as_wide_as_its_encoders_make_them():
    found = conditioning("stable_diffusion", "sdxl")
    assert found == {"text": (2, 77, 768 + 1280), "pooled": (2, 1280)}


def test_reference_pictures_are_as_large_as_the_model_is_shown_them(tmp_path):
    shelf = FAMILIES.load("qwen_image")
    shelf.save(shelf.tiny("edit"), tmp_path)
    vae = shelf.load_vae(Source("edit", str(tmp_path)))
    seen = shelf.image_conditioning(vae, None, torch.zeros(1, 3, 1, 64, 64), [picture((1, 64, 64))])
    found = conditioning("qwen_image", "edit", str(tmp_path), batch=1)
    assert found["reference_0"] == tuple(seen["reference_0"].shape)
    released = shelf.rehearsal_parts(Source("edit", device="meta"))
    assert area_of(released.vae) == 1024**2
