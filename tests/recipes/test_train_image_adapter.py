"""`model.train = "image_adapter"`: from clips with masks to a file that samples."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tests.adapters.image.pipelines import build_pipeline
from tests.recipes.test_train_families import config_of as config_of_family
from tests.recipes.test_train_families import picture
from tests.runs.image_adapters.scene import config_of, measure_adapter, write_encoder, write_world

from frisket.adapters.image.adapter import ImageAdapterModules
from frisket.adapters.image.files import read_image_adapter
from frisket.config.load import ConfigError, check
from frisket.config.tree import Config
from frisket.data.loader import Loader
from frisket.families.base import FAMILIES, Source
from frisket.inference.generate import embed, sample
from frisket.inference.methods.plugin import METHODS, MethodRequest, ReferencePicture
from frisket.inference.sample_specs import SampleSpec
from frisket.media.frames import write_image
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.runs.image_adapters.references import prepare_references
from frisket.runs.memory.estimate import predict
from frisket.runs.prepare import prepare
from frisket.runs.refusals import stop_if_refused
from frisket.training.checkpoint import CheckpointError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def run(world: Path) -> Path:
    """A finished run with previews and validations."""
    output = world / "runs" / "first"
    config = config_of(
        world, output, preview={"every": 2, "prompts": ["sks"]}, losses={"prior": 0.5}
    )
    train(config)
    return output


def read_entries(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as opened:
        entries: dict[str, str] = opened.metadata()
    return entries


def read_metrics(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_an_adapter_in_the_public_layout(run: Path) -> None:
    path = run / "image_adapter.safetensors"
    assert not list(run.rglob("lora*"))
    file = read_image_adapter(path)
    assert (file.kind, file.tokens, file.embedding, file.family) == ("base", 4, 24, "")
    assert file.numbers == tuple(range(1, 2 * len(file.numbers), 2))
    entries = read_entries(path)
    assert entries["frisket.image_adapter"] == "base"
    assert entries["frisket.steps"] == "4"
    assert entries["modelspec.architecture"].endswith("/ip-adapter")
    assert json.loads(entries["frisket.references"])["cut"] is True
    assert not any(key.startswith("ss_network") for key in entries)
    assert str(run.parent) not in json.dumps(entries)  # nobody's folders
    newest = sorted((run / "checkpoints").iterdir())[-1] / "image_adapter.safetensors"
    assert newest.read_bytes() == path.read_bytes()
    assert "An image adapter (base) for pocket image" in (run / "README.md").read_text()
    assert len(list((run / "previews").iterdir())) == 2
    assert all(line["prior"] > 0 for line in read_metrics(run) if "prior" in line)
    scores = [line["validation"] for line in read_metrics(run) if "validation" in line]
    assert all(value == 0 for key, value in scores[-1]["base"].items() if "drift" in key)
    assert scores[-1]["tuned"]["drift/subject"] > 0


@pytest.mark.parametrize("variant", ["image", "dit"])
def test_a_base_in_half_precision_is_previewed(world: Path, tmp_path: Path, variant: str) -> None:
    config = config_of(
        world, tmp_path, variant, preview={"every": 1, "prompts": ["sks"]},
        model={"dtype": "bfloat16"}, run={"steps": 1}, validation={"holdout": 0},
    )  # fmt: skip
    train(config)
    assert len(list((tmp_path / "previews").iterdir())) == 1


def test_clips_held_out_are_shown_their_own_reference_though_names_repeat(
    world: Path, tmp_path: Path
) -> None:
    folders = []
    for number in range(2):
        folders.append(tmp_path / str(number))
        quickstart_data.make_clips(folders[-1], seed=number)
    data = [{"clips": folder / "clips", "masks": folder / "masks"} for folder in folders]
    config = config_of(world, tmp_path / "run", data=data, validation={"holdout": 6})
    prepared = prepare(config)
    names = [item.name for item in prepared.held]
    assert len(set(names)) < len(names)
    references = prepare_references(config, prepared)
    shown = [
        references.show(batch)[0] for batch in Loader(prepared, batch=1, seed=0).collate_held()
    ]
    own = [
        references.store.load("reference", key).tensors["embedding"] for key in references.held_keys
    ]
    assert all(torch.equal(*pair) for pair in zip(shown, own, strict=True))


@pytest.mark.parametrize(
    ("variant", "tables"),
    [
        ("image", {"optimizer": {"lr": 1e-2, "ema": 0.5}, "image_adapter": {"dropout": 0.5}}),
        ("dit", {"image_adapter": {"kind": "plus", "references": "other", "confine": True}}),
    ],
    ids=["unet", "transformer"],
)
def test_a_killed_run_goes_on_to_the_same_file(
    world: Path, tmp_path: Path, variant: str, tables: dict[str, Any]
) -> None:
    whole = config_of(world, tmp_path / "whole" / "run", variant, **tables)
    train(whole)

    class PowerCut(BaseException):
        pass

    def cut(stage: str, step: int, total: int, values: object) -> None:
        if stage == "training" and step == 3:
            raise PowerCut

    parts = config_of(
        world, tmp_path / "parts" / "run", variant, **tables,
        memory={"checkpointing": True},
    )  # fmt: skip
    with pytest.raises(PowerCut):
        train(parts, progress=cut)
    result = train(parts)  # from step 2 on, and blocks computed twice
    assert result.image_adapter is not None
    name = "image_adapter.safetensors"
    assert result.image_adapter.read_bytes() == (whole.run.output / name).read_bytes()
    looks = [
        [line["validation"] for line in read_metrics(config.run.output) if "validation" in line]
        for config in (whole, parts)
    ]
    assert looks[0] == looks[1]


def test_a_transformer_begins_as_its_base_and_says_its_family(world: Path, tmp_path: Path) -> None:
    config = config_of(
        world, tmp_path, "dit", run={"steps": 1}, losses={"prior": 1.0},
        image_adapter={"width": 32, "tokens": 2},
    )  # fmt: skip
    train(config)
    (step,) = [line for line in read_metrics(tmp_path) if "prior" in line]
    assert step["prior"] == 0
    file = read_image_adapter(tmp_path / "image_adapter.safetensors")
    assert (file.family, file.numbers[0], file.width, file.tokens) == ("pocket", 0, (32,), 2)
    values = [value for key, value in file.layers.items() if "to_v_ip" in key]
    assert all(bool(value.any()) for value in values)  # it has moved


def test_a_run_begins_with_a_file_and_learns(world: Path, run: Path, tmp_path: Path) -> None:
    config = config_of(
        world, tmp_path, image_adapter={"source": run / "image_adapter.safetensors"},
        optimizer={"lr": 1e-30}, run={"steps": 1},
    )  # fmt: skip
    train(config)
    before, after = (load_file(folder / "image_adapter.safetensors") for folder in (run, tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    changed = config.image_adapter.model_copy(update={"dropout": 0.3})
    with pytest.raises(CheckpointError, match=r"image_adapter.dropout: 0.1 then, 0.3 now"):
        train(config.model_copy(update={"image_adapter": changed}))


def test_the_stock_pipeline_predicts_with_the_file_as_the_trainer_did(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    for name in ("stills", "still-masks"):
        (tmp_path / name).mkdir()
    for number in range(2):
        for name, pixels in zip(("stills", "still-masks"), picture(number), strict=True):
            write_image(tmp_path / name / f"{number}.png", pixels)
    tree = config_of_family(
        tmp_path, tmp_path / "run", "stable_diffusion", "sd15",
        model={"train": "image_adapter"}, image_adapter={"encoder": encoder, "dropout": 0.0},
        lora={}, validation={"holdout": 1},
    )  # fmt: skip
    train(tree)
    family = FAMILIES.load("stable_diffusion")
    unet: Any = family.load_denoiser(Source("sd15", tree.model.source))
    pipe: Any = build_pipeline(unet)
    pipe.load_ip_adapter(
        tree.run.output, subfolder="", weight_name="image_adapter.safetensors",
        image_encoder_folder=None,
    )  # fmt: skip
    shown = torch.randn(1, 24, generator=torch.Generator().manual_seed(0))
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    text = torch.randn(1, 77, unet.config.cross_attention_dim)
    with torch.no_grad():
        theirs = unet(
            noisy, torch.tensor([500]), text, added_cond_kwargs={"image_embeds": [shown[:, None]]}
        ).sample
    assert torch.isfinite(theirs).all()
    ours = predict_with_file(tree, shown, noisy, text)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@torch.no_grad()
def predict_with_file(
    config: Config, shown: torch.Tensor, noisy: torch.Tensor, text: torch.Tensor
) -> torch.Tensor:
    """What the trainer's branches make of the file that the run has written."""
    from frisket.adapters.image.adapter import install_adapter
    from frisket.runs.image_adapters.branches import connect_branches

    family = FAMILIES.load("stable_diffusion")
    unet: Any = family.load_denoiser(Source("sd15", config.model.source))
    file = read_image_adapter(config.run.output / "image_adapter.safetensors")
    install_adapter(unet, ImageAdapterModules.from_file(file))
    branches = connect_branches(family, unet)
    branches.set_rows(list(shown))
    output: torch.Tensor = unet(noisy, torch.tensor([500]), text).sample
    return output


@pytest.mark.parametrize("variant", ["image", "dit"])
def test_what_was_trained_samples_as_a_method(
    world: Path, run: Path, tmp_path: Path, variant: str
) -> None:
    output = run if variant == "image" else tmp_path
    if variant == "dit":
        train(config_of(world, output, "dit"))
    family = FAMILIES.load("pocket")
    parts = family.tiny(variant)
    parts.denoiser = family.load_denoiser(Source(variant, str(world / variant)))
    frame = torch.full((40, 40, 3), 90, dtype=torch.uint8)
    plugin = METHODS.load("ip_adapter")
    assert plugin.refuse(family, variant) == ""
    request = MethodRequest(
        source=output / "image_adapter.safetensors",
        references=(ReferencePicture(Path("ada.png"), frame),),
        encoder=world / "encoder",
        options=plugin.options(),
    )
    specs = [SampleSpec("sks", 0, 32, 32, 1, 2, 3.0)]
    assert parts.text is not None
    embeddings = embed(family, variant, parts.text, specs)
    method = plugin.read(request, family, variant).build(family, parts)
    bare, moved, again = (
        next(iter(sample(family, parts, embeddings, specs, method=used))).frames
        for used in (None, method, None)
    )
    assert torch.equal(bare, again)
    assert not torch.equal(bare, moved)


def test_memory_is_foretold(world: Path, tmp_path: Path) -> None:
    for variant in ("image", "dit"):
        config = config_of(world, tmp_path, variant, image_adapter={"kind": "plus"})
        assert predict(config, prepare=False).adapter == pytest.approx(measure_adapter(config))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"image_adapter": {"encoder": None}}, "`image_adapter.encoder` is not set"),
        ({"lora": {"rank": 8}}, "`lora.rank` is of a LoRA"),
        ({"image_adapter": {"region": "fase"}}, "'fase' is not in"),
        ({"memory": {"compile": True}}, "`memory.compile` would freeze"),
        ({"model": {"train": "lora"}}, "`image_adapter.encoder` is of an image adapter"),
        ({"routing": {"background": 0.5}}, "`routing.background` = 0.5"),
        ({"mix": {"rate": 0.5}}, "`mix.rate` = 0.5"),
        (
            {"model": {"family": "wan", "variant": "2.2-t2v-a14b", "source": ""}},
            "2 denoisers, and an image adapter is for one",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_the_config(
    world: Path, tmp_path: Path, tables: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(config_of(world, tmp_path, **tables))


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"image_adapter": {"width": 64}}, "`image_adapter.width` = 64 is for transformers"),
        ({"image_adapter": {"tokens": 8}}, "take 4 for granted"),
        ({"memory": {"quantise": "int8", "checkpointing": True}}, "copies of the text's keys"),
        ({"image_adapter": {"encoder": Path("nowhere")}}, "nowhere holds no image encoder"),
        ({"image_adapter": {"source": Path("gone.safetensors")}}, "there is no image adapter"),
        (
            {"model": {"family": "z_image", "variant": "", "source": ""}},
            'model.train = "image_adapter": z_image .* no attention layer',
        ),
    ],
)
def test_what_is_not_there_is_refused_before_any_work(
    world: Path, tmp_path: Path, tables: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        stop_if_refused(config_of(world, tmp_path, **tables))


def test_a_file_of_another_kind_or_encoder_is_refused(
    world: Path, run: Path, tmp_path: Path
) -> None:
    file = run / "image_adapter.safetensors"
    with pytest.raises(ConfigError, match=r"its tensors are those of base, not of plus"):
        stop_if_refused(config_of(world, tmp_path, image_adapter={"source": file, "kind": "plus"}))
    other = write_encoder(tmp_path / "encoder", projection=40)
    with pytest.raises(ConfigError, match=r"it reads 24 numbers .* gives 40"):
        stop_if_refused(
            config_of(world, tmp_path, image_adapter={"source": file, "encoder": other})
        )


def test_clips_without_another_are_named(world: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    for name in ("clips", "masks"):
        first = min((world / "data" / name).glob("*.png"))
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.png").write_bytes(first.read_bytes())
    (tmp_path / "clips" / "one.txt").write_text("sks")
    data = [{"clips": tmp_path / "clips", "masks": tmp_path / "masks"}]
    config = config_of(
        world, tmp_path / "run", data=data, validation={"holdout": 0}, run={"batch": 1},
        image_adapter={"references": "other"},
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"one.png has no other clip beside it"):
        train(config)
