"""Quantised bases: which layers, how far off, that they train, and from every kind of source."""

import sys

import pytest
import torch
from tests.training.memory.test_offload import built, step
from torch import nn

from frisket.adapters import lora
from frisket.families.base import FAMILIES, Source, WeightsNotFound
from frisket.families.blocks import blocks_of, plain_tensors
from frisket.families.quantise import (
    EightBit,
    PackageMissing,
    find_kind,
    layers_of,
    quantise,
    require,
)

VARIANT = "2.1-t2v-1.3b"


@pytest.fixture(scope="module")
def shelf():
    return FAMILIES.load("wan")


@pytest.fixture
def parts(shelf):
    return shelf.tiny(VARIANT)


@pytest.fixture(scope="module")
def saved(shelf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wan")
    shelf.save(shelf.tiny(VARIANT), folder)
    return folder


def told(shelf, parts, denoiser) -> torch.Tensor:
    noisy = torch.randn(2, 16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    given = shelf.embed(parts.text, ["a red fox", "b"])
    return shelf.predict(denoiser, noisy, torch.tensor([0.3, 0.8]), given)


def size_of(model: nn.Module) -> int:
    values = [*model.parameters(), *model.buffers()]
    return sum(each.untyped_storage().nbytes() for value in values for each in plain_tensors(value))


def test_blocks_of_families():
    for family, names in {
        "wan": ["blocks.0", "blocks.1"],
        "pocket": [
            "down_blocks.1.attentions.0.transformer_blocks.0",
            "down_blocks.2.attentions.0.transformer_blocks.0",
            "mid_block.attentions.0.transformer_blocks.0",
        ],
    }.items():
        shelf = FAMILIES.load(family)
        found = list(blocks_of(shelf.tiny(next(iter(shelf.variants))).denoiser))
        assert found[: len(names)] == names


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match="Linear has no repeated blocks"):
        blocks_of(nn.Linear(2, 2))


def test_only_the_blocks_are_quantised(shelf, parts):
    names = set(layers_of(parts.denoiser))
    assert "blocks.0.attn1.to_q" in names
    assert "blocks.1.ffn.net.2" in names
    assert all(name.startswith("blocks.") for name in names)
    before = {name: type(each) for name, each in parts.denoiser.named_modules()}
    quantise(parts.denoiser, "nf4", dtype=torch.float32, device="cpu")
    changed = {
        name
        for name, each in parts.denoiser.named_modules()
        if name in before and type(each) is not before[name]
    }
    assert changed == names
    assert find_kind(parts.denoiser) == "nf4"


def test_nf4_is_near_the_plain_model_and_smaller(shelf, parts):
    plain, size = told(shelf, parts, parts.denoiser), size_of(parts.denoiser.blocks)
    quantise(parts.denoiser, "nf4", dtype=torch.float32, device="cpu")
    off = (told(shelf, parts, parts.denoiser) - plain).norm() / plain.norm()
    assert 0 < float(off) < 0.1
    assert size_of(parts.denoiser.blocks) < size / 2  # a float32 bias is a tenth of a tiny layer


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_adapter_starts_at_the_base_and_learns(shelf, parts, kind):
    quantise(parts.denoiser, "nf4", dtype=torch.float32, device="cpu")
    base = told(shelf, parts, parts.denoiser)
    spec = lora.LoraSpec(kind=kind, rank=4, targets=shelf.lora_targets)
    lora.attach(parts.denoiser, spec, seed=0)
    trained = lora.trainable(parts.denoiser)
    torch.testing.assert_close(told(shelf, parts, parts.denoiser), base, rtol=1e-5, atol=1e-6)
    before = told(shelf, parts, parts.denoiser).square().mean()
    before.backward()
    assert all(value.grad is not None for value in trained.values())
    with torch.no_grad():
        for value in trained.values():
            value.sub_(value.grad, alpha=0.5)
        assert told(shelf, parts, parts.denoiser).square().mean() < before


def test_sampling_in_between_does_not_repack_the_weights(shelf, parts):
    # bitsandbytes repacks in eval mode on CPUs with AVX512-BF16, and cannot train on it after.
    quantise(parts.denoiser, "nf4", dtype=torch.float32, device="cpu")
    lora.attach(parts.denoiser, lora.LoraSpec(rank=4, targets=shelf.lora_targets), seed=0)
    base = told(shelf, parts, parts.denoiser.train()).detach()
    with torch.no_grad():
        told(shelf, parts, parts.denoiser.eval())
    again = told(shelf, parts, parts.denoiser.train())
    assert torch.equal(again.detach(), base)
    again.mean().backward()


def test_twice_is_once_too_often(parts):
    quantise(parts.denoiser, "nf4", dtype=torch.float32, device="cpu")
    with pytest.raises(ValueError, match="quantised already"):
        quantise(parts.denoiser, "nf4", dtype=torch.float32, device="cpu")


def test_a_folder_and_a_single_file_load_quantised_alike(shelf, parts, saved):
    asked = Source(VARIANT, str(saved), quantise="nf4")
    folder = shelf.load_denoiser(asked)
    file = saved / "transformer" / "diffusion_pytorch_model.safetensors"
    single = shelf.load_denoiser(Source(VARIANT, str(file), quantise="nf4"))
    assert find_kind(folder) == find_kind(single) == "nf4"
    assert torch.equal(told(shelf, parts, folder), told(shelf, parts, single))


def test_eight_bits_need_torchao(monkeypatch, parts):
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(PackageMissing, match="pip install torchao"):
        quantise(parts.denoiser, "int8", dtype=torch.float32, device="cpu")
    assert find_kind(parts.denoiser) == "none"
    require("none")


@pytest.mark.parametrize(("kind", "share"), [("nf4", 0.26), ("int8", 0.50), ("fp8", 0.50)])
def test_shapes_alone_tell_the_size_of_the_real_one(shelf, kind, share):
    plain = shelf.load_denoiser(Source(VARIANT, device="meta", dtype=torch.bfloat16))
    assert {value.device.type for value in plain.parameters()} == {"meta"}
    assert sum(value.numel() for value in plain.parameters()) == pytest.approx(1.42e9, rel=0.01)
    narrow = shelf.load_denoiser(
        Source(VARIANT, device="meta", dtype=torch.bfloat16, quantise=kind)
    )
    assert size_of(narrow.blocks) / size_of(plain.blocks) == pytest.approx(share, abs=0.01)


def test_shapes_of_a_folder_are_those_of_its_config(shelf, saved, parts):
    for kind in ("none", "nf4"):
        real = shelf.load_denoiser(Source(VARIANT, str(saved), quantise=kind))
        shapes = shelf.load_denoiser(Source(VARIANT, str(saved), device="meta", quantise=kind))
        assert size_of(shapes) == size_of(real)


def test_shapes_need_a_config_and_no_weights(shelf, saved, tmp_path):
    for part in ("transformer", "vae"):
        (tmp_path / part).mkdir()
        config = (saved / part / "config.json").read_text(encoding="utf-8")
        (tmp_path / part / "config.json").write_text(config, encoding="utf-8")
    source = Source(VARIANT, str(tmp_path), device="meta")
    assert next(shelf.load_denoiser(source).parameters()).device.type == "meta"
    assert next(shelf.load_vae(source).parameters()).device.type == "meta"
    (tmp_path / "vae" / "config.json").unlink()
    with pytest.raises(WeightsNotFound, match=r"config\.json is enough"):
        shelf.load_vae(Source(VARIANT, str(tmp_path), device="meta"))


def test_the_stand_in_of_eight_bits_computes(parts):
    layer = nn.Linear(6, 4, device="meta")
    stand_in = EightBit(layer, torch.int8, torch.bfloat16)
    out = stand_in(torch.empty(2, 6, device="meta", dtype=torch.bfloat16))
    assert out.shape == (2, 4)
    assert size_of(stand_in) == 6 * 4 + 4 * 4 + 4 * 2


@pytest.mark.parametrize("family", FAMILIES.names())
def test_every_family_trains_on_nf4(family):
    shelf, denoiser, *given = built(family=family)
    lora.detach(denoiser)
    quantise(denoiser, "nf4", dtype=torch.float32, device="cpu")
    spec = lora.LoraSpec(rank=4, targets=shelf.lora_targets, dead=shelf.lora_dead)
    lora.attach(denoiser, spec, seed=0)
    prediction, gradients = step(shelf, denoiser, *given)
    assert prediction.isfinite().all()
    assert sum(float(each.abs().sum()) for each in gradients) > 0


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
def test_under_autocast_a_quantised_layer_answers_as_a_plain_one(shelf, parts):
    layer = parts.denoiser.blocks[0].attn1.to_out[0]
    given = torch.randn(2, 5, layer.in_features)
    with torch.autocast("cpu", torch.bfloat16):
        plain = layer(given)
        quantise(parts.denoiser, "nf4", dtype=torch.float32, device="cpu")
        narrow = parts.denoiser.blocks[0].attn1.to_out[0](given)
    assert plain.dtype == narrow.dtype == torch.bfloat16
