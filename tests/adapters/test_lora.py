"""Adapters on a real (tiny) transformer and a real (tiny) UNet."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.adapters.lora import AdapterMismatch, LoraSpec
from frisket.families.models.pocket.family import FAMILY as POCKET
from frisket.families.models.wan.family import FAMILY as WAN

KINDS = ("lora", "dora", "loha", "lokr")
SPEC = LoraSpec(rank=2, alpha=5.0, targets=("to_q", "ffn.net.2"))


@pytest.fixture(scope="module")
def tiny():
    return WAN.tiny("2.1-t2v-1.3b")


@pytest.fixture(scope="module")
def given(tiny):
    return WAN.embed(tiny.text, ["a cat"])


@pytest.fixture
def denoiser(tiny) -> nn.Module:
    return deepcopy(tiny.denoiser)


@pytest.fixture
def predict(given):
    noisy = torch.randn(1, 16, 1, 4, 6, generator=torch.Generator().manual_seed(1))

    def run(model: nn.Module) -> Tensor:
        with torch.no_grad():
            return WAN.predict(model, noisy, torch.tensor([0.6]), given)

    return run


def stir(denoiser: nn.Module, seed: int = 7) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(0.2 * torch.randn(value.shape, generator=generator))


def adapted(model: nn.Module, spec: LoraSpec = SPEC) -> nn.Module:
    lora.attach(model, spec, seed=0)
    stir(model)
    return model.eval()


def spec(kind: str, **options) -> LoraSpec:
    return LoraSpec(kind, **{"rank": 2, "alpha": 5.0, "targets": SPEC.targets, **options})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adapter_changes_nothing_and_trains_in_float32(denoiser, predict, kind, dtype):
    denoiser.to(dtype)
    base = predict(denoiser)
    names = lora.attach(denoiser, spec(kind), seed=0)
    assert torch.equal(predict(denoiser), base)
    parameters = lora.trainable(denoiser)
    assert {value.dtype for value in parameters.values()} == {torch.float32}
    assert all(any(key.startswith(f"{name}.") for name in names) for key in parameters)
    assert all(any(key.startswith(f"{name}.") for key in parameters) for name in names)
    assert len(names) == 2 * 3  # to_q of two attentions and the second ffn layer, twice


@pytest.mark.parametrize("kind", KINDS)
def test_initial_values_follow_the_seed_and_the_global_generator_is_left_alone(denoiser, kind):
    def start(seed: int) -> dict[str, Tensor]:
        model = deepcopy(denoiser)
        lora.attach(model, spec(kind), seed=seed)
        return lora.trainable(model)

    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = start(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again, other = start(1), start(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_has_no_adapter_no_dropout_and_restores_after_an_error(denoiser, predict, kind):
    base = predict(denoiser)
    model = adapted(denoiser, spec(kind, dropout=0.5)).train()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    asked = set(lora.trainable(model))
    with lora.frozen(model), lora.frozen(model):
        assert torch.equal(predict(model), base)
        assert set(lora.trainable(model)) == asked
    with pytest.raises(ZeroDivisionError), lora.frozen(model):
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == modes
    assert not torch.equal(predict(model.eval()), base)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_on_in_training_only(denoiser, predict, kind):
    model = adapted(denoiser, spec(kind, dropout=0.5))
    assert torch.equal(predict(model), predict(model))
    model.train()
    assert not torch.equal(predict(model), predict(model))


def test_a_layer_is_not_taken_for_one_whose_name_ends_alike():
    model = nn.ModuleDict(
        {"out": nn.Linear(4, 4), "block": nn.ModuleDict({"out": nn.Linear(4, 4)})}
    )
    asked = LoraSpec(rank=2, targets=("out",), exclude=("block.out",))
    assert lora.attach(model, asked, seed=0) == ("out",)
    assert {name.split(".")[0] for name in lora.trainable(model)} == {"out"}


def test_alpha_is_the_rank_by_default(tiny, predict):
    default, same = (
        adapted(deepcopy(tiny.denoiser), LoraSpec(rank=4, alpha=alpha, targets=("to_q",)))
        for alpha in (None, 4.0)
    )
    double = adapted(deepcopy(tiny.denoiser), LoraSpec(rank=4, alpha=8.0, targets=("to_q",)))
    assert torch.equal(predict(default), predict(same))
    assert not torch.equal(predict(default), predict(double))


def test_targets_are_endings_or_one_expression_less_what_is_excluded(denoiser):
    def hit(*targets: str, exclude: tuple[str, ...] = ()) -> tuple[str, ...]:
        model = deepcopy(denoiser)
        return lora.attach(model, LoraSpec(rank=1, targets=targets, exclude=exclude), seed=0)

    assert hit("blocks.1.attn1.to_q") == ("blocks.1.attn1.to_q",)
    assert hit(r"/blocks\.0\..*to_[kv]$/") == tuple(
        f"blocks.0.{attention}.to_{letter}" for attention in ("attn1", "attn2") for letter in "kv"
    )
    assert hit("to_q", exclude=("attn2.to_q",)) == ("blocks.0.attn1.to_q", "blocks.1.attn1.to_q")
    assert hit("to_q", exclude=("/blocks.0/",)) == ("blocks.1.attn1.to_q", "blocks.1.attn2.to_q")
    assert "patch_embedding" in hit("patch_embedding", "to_q")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": ("to_qq",)}, r"targets: no module is named 'to_qq'; near to it: .*to_q"),
        (
            {"targets": ("to_q", "ffn.net.1.prj")},
            r"'ffn\.net\.1\.prj'; near to it: ffn\.net\.0\.proj",
        ),
        ({"targets": ("xyz",)}, r"'xyz'; endings there are: .*to_q"),
        (
            {"targets": ("attn1",)},
            r"'attn1' hits blocks\.0\.attn1, a WanAttention.*blocks\.0\.attn1\.to_q",
        ),
        ({"targets": ("/bl(/",)}, "is no regular expression"),
        ({"targets": ()}, "no targets"),
        ({"targets": ("to_q",), "exclude": ("too_q",)}, r"exclude: no module is named 'too_q'"),
        ({"targets": ("to_q",), "exclude": ("to_q",)}, "leaves no layer"),
        ({"kind": "lokr", "targets": ("patch_embedding",)}, r"a Conv3d; adapters go on Linear"),
    ],
)
def test_targets_that_hit_nothing_are_refused_with_the_nearest(denoiser, options, message):
    with pytest.raises(ValueError, match=message):
        lora.attach(denoiser, LoraSpec(**{"kind": "lora", **options}), seed=0)
    assert lora.get_spec(denoiser) is None


def test_a_second_adapter_is_refused_until_the_first_is_off(denoiser, predict):
    base = predict(denoiser)
    keys = set(denoiser.state_dict())
    adapted(denoiser)
    with pytest.raises(ValueError, match="has an adapter already"):
        lora.attach(denoiser, SPEC, seed=0)
    lora.detach(denoiser)
    assert set(denoiser.state_dict()) == keys
    assert torch.equal(predict(denoiser), base)
    assert lora.get_spec(denoiser) is None
    lora.attach(denoiser, SPEC, seed=0)


def test_strength_scales_the_effect_and_zero_is_the_base(denoiser, predict):
    base = predict(denoiser)
    model = adapted(denoiser)
    whole = predict(model)
    lora.set_strength(model, 0.0)
    assert torch.equal(predict(model), base)
    lora.set_strength(model, 0.5)
    half = predict(model)
    assert 0 < (half - base).norm() < (whole - base).norm()
    lora.set_strength(model, 1.0)
    assert torch.equal(predict(model), whole)
    with pytest.raises(ValueError, match="finite"):
        lora.set_strength(model, float("nan"))


@pytest.mark.parametrize("kind", KINDS)
def test_at_strength_nought_every_kind_is_the_base(denoiser, predict, kind):
    base = predict(denoiser)
    model = adapted(denoiser, spec(kind))
    assert not torch.equal(predict(model), base)
    lora.set_strength(model, 0.0)  # DoRA has learnt magnitudes, which no scale takes back
    assert torch.equal(predict(model), base)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_adapter_loads_exactly_onto_a_bare_base(tiny, denoiser, predict, tmp_path, kind):
    wanted = spec(kind, dropout=0.25, exclude=("blocks.0.attn2.to_q",))
    model = adapted(denoiser, wanted)
    file = tmp_path / "runs" / "a.safetensors"
    lora.save(model, file, {"frisket.regions": '{"subject": 1.0}'})
    assert lora.spec_of(file) == wanted
    assert lora.spec_of(file).rank == 2
    other = deepcopy(tiny.denoiser)
    lora.load(other, file)
    assert lora.get_spec(other) == wanted
    # Exactly but for alpha / rank, which is in the file's B: rounded once more, to and fro.
    torch.testing.assert_close(predict(other.eval()), predict(model))
    torch.testing.assert_close(dict(lora.trainable(other)), dict(lora.trainable(model)))


def test_a_file_loads_onto_the_adapter_that_is_there(tiny, denoiser, predict, tmp_path):
    lora.save(adapted(denoiser), tmp_path / "a.safetensors", {})
    other = deepcopy(tiny.denoiser)
    lora.attach(other, SPEC, seed=9)
    optimised = lora.trainable(other)
    lora.load(other, tmp_path / "a.safetensors")
    torch.testing.assert_close(predict(other.eval()), predict(denoiser))
    assert all(value is optimised[name] for name, value in lora.trainable(other).items())


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_the_stock_pipeline_samples_the_same_with_our_file(tiny, denoiser, tmp_path, kind):
    def sample(pipeline) -> Tensor:
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(4)
        return pipeline(
            "a cat", None, 32, 48, 5, 2, generator=generator, output_type="latent"
        ).frames

    bare = deepcopy(tiny)
    stock = WAN.pipeline(bare)
    base = sample(stock)
    lora.save(adapted(denoiser, spec(kind)), tmp_path / "a.safetensors", {})
    stock.load_lora_weights(str(tmp_path), weight_name="a.safetensors")
    ours = deepcopy(tiny)
    ours.denoiser = denoiser
    found = sample(WAN.pipeline(ours))
    # The file has alpha / rank in its B: rounded once more.
    torch.testing.assert_close(found, sample(stock), atol=1e-4, rtol=1e-4)
    assert not torch.equal(found, base)


def test_a_file_of_diffusers_own_making_is_continued(tiny, denoiser, predict, tmp_path):
    model = adapted(denoiser)
    model.save_lora_adapter(tmp_path, weight_name="raw.safetensors")
    from diffusers import WanPipeline
    from diffusers.training_utils import _collate_lora_metadata
    from peft.utils import get_peft_model_state_dict

    WanPipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=get_peft_model_state_dict(model),
        weight_name="theirs.safetensors",
        **_collate_lora_metadata({"transformer": model}),
    )
    other = deepcopy(tiny.denoiser)
    lora.load(other, tmp_path / "theirs.safetensors")
    assert lora.get_spec(other).scale == SPEC.scale
    assert torch.equal(predict(other.eval()), predict(model))
    with pytest.raises(AdapterMismatch, match="not adapter keys under 'transformer'"):
        lora.load(deepcopy(tiny.denoiser), tmp_path / "raw.safetensors")


def test_a_unet_is_adapted_convolutions_and_all(tmp_path):
    base = POCKET.tiny("image").denoiser
    other = deepcopy(base)
    lora.attach(base, LoraSpec(rank=2, targets=POCKET.lora_targets), seed=0)
    stir(base)
    lora.save(base, tmp_path / "a.safetensors", {}, prefix="unet")
    with pytest.raises(AdapterMismatch, match="under 'transformer', the first is unet"):
        lora.load(other, tmp_path / "a.safetensors")
    lora.load(other, tmp_path / "a.safetensors", prefix="unet")
    ours, theirs = lora.trainable(base), lora.trainable(other)
    assert any(value.ndim == 4 for value in ours.values())
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_equal_adapters_make_equal_files_and_keep_the_metadata(denoiser, tmp_path):
    from safetensors import safe_open

    model = adapted(denoiser)
    notes = {f"note{index}": str(index) for index in range(20)}
    contents = set()
    for index in range(3):
        file = tmp_path / f"{index}.safetensors"
        lora.save(model, file, notes)
        contents.add(file.read_bytes())
    assert len(contents) == 1
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    assert notes.items() <= metadata.items()
    assert json.loads(metadata["frisket.adapter"])["targets"] == list(SPEC.targets)


def test_a_save_that_fails_leaves_the_old_file_and_no_rubbish(denoiser, tmp_path, monkeypatch):
    model = adapted(denoiser)
    file = tmp_path / "a.safetensors"
    lora.save(model, file, {})
    before = file.read_bytes()
    stir(model, seed=8)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        lora.save(model, file, {})
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        lora.save(model, tmp_path / "file" / "a.safetensors", {})


def test_save_needs_an_adapter(denoiser, tmp_path):
    with pytest.raises(ValueError, match="no adapter is attached"):
        lora.save(denoiser, tmp_path / "a.safetensors", {})


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"rank": 3}, "has rank 2, the adapter on this denoiser has rank 3.*lora.rank = 2"),
        ({"kind": "dora"}, "has kind lora, the adapter on this denoiser has kind dora"),
        ({"alpha": 1.0}, r"has alpha 5\.0, the adapter on this denoiser has alpha 1\.0"),
        ({"targets": ("to_q",)}, r"4 tensors are in the file only, the first is blocks\.0\.ffn"),
        ({"targets": ("to_k", "to_q", "ffn.net.2")}, r"this adapter only.*to_k"),
    ],
)
def test_a_file_of_another_adapter_is_refused(tiny, denoiser, tmp_path, theirs, message):
    lora.save(adapted(denoiser), tmp_path / "a.safetensors", {})
    other = deepcopy(tiny.denoiser)
    lora.attach(other, spec(**{"kind": "lora", **theirs}), seed=0)
    before = {name: value.clone() for name, value in lora.trainable(other).items()}
    with pytest.raises(AdapterMismatch, match=message):
        lora.load(other, tmp_path / "a.safetensors")
    assert all(torch.equal(value, before[name]) for name, value in lora.trainable(other).items())


def test_a_file_of_another_base_is_refused_and_leaves_nothing_behind(denoiser, tmp_path):
    from diffusers import WanTransformer3DModel

    lora.save(adapted(denoiser), tmp_path / "a.safetensors", {})
    shape = {"num_attention_heads": 4, "attention_head_dim": 12, "text_dim": 32, "ffn_dim": 32}
    wider = WanTransformer3DModel(num_layers=2, **shape)
    with pytest.raises(AdapterMismatch, match=r"another base: blocks.*\(2, 24\) .*\(2, 48\) here"):
        lora.load(wider, tmp_path / "a.safetensors")
    shorter = WanTransformer3DModel(num_layers=1, **shape)
    with pytest.raises(
        AdapterMismatch, match=r"3 of its 6 modules are not .*blocks\.1\.attn1\.to_q"
    ):
        lora.load(shorter, tmp_path / "a.safetensors")
    for model in (wider, shorter):
        assert lora.get_spec(model) is None
        assert not any("lora" in key for key in model.state_dict())


def test_damaged_and_foreign_files_are_named(denoiser, tmp_path: Path):
    from safetensors.torch import save_file

    lora.save(adapted(denoiser), tmp_path / "a.safetensors", {})
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "a.safetensors").read_bytes()[:-10])
    with pytest.raises(AdapterMismatch, match=r"cut\.safetensors is cut short"):
        lora.spec_of(cut)
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        lora.load(denoiser, tmp_path / "gone.safetensors")
    foreign = tmp_path / "kohya.safetensors"
    save_file({"lora_unet_blocks_0.lora_down.weight": torch.zeros(2, 2)}, foreign)
    with pytest.raises(AdapterMismatch, match="not an adapter in diffusers' key names"):
        lora.spec_of(foreign)
    half = tmp_path / "half.safetensors"
    save_file({"transformer.a.lora_A.weight": torch.zeros(2, 2)}, half)
    with pytest.raises(AdapterMismatch, match=r"transformer\.a lacks lora_B\.weight"):
        lora.spec_of(half)
