"""Adapters on several denoisers that share the noise range: one file each, put back on its own."""

from copy import deepcopy

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import nn

from frisket.adapters import files, lora
from frisket.adapters.lora import AdapterMismatch, LoraSpec
from frisket.families.experts import Experts

SPEC = LoraSpec(rank=2, targets=("to_q",))
RANGES = {"high": (0.875, 1.0), "low": (0.0, 0.875)}


@pytest.fixture
def pair() -> Experts:
    shape = {"num_attention_heads": 1, "attention_head_dim": 12, "text_dim": 8, "ffn_dim": 8}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = {name: WanTransformer3DModel(num_layers=1, **shape) for name in RANGES}
    return Experts(models, RANGES).requires_grad_(False).eval()


def stir(denoiser: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(torch.randn(value.shape, generator=generator))
    return denoiser


def assert_same(first: nn.Module, second: nn.Module) -> None:
    ours, theirs = lora.trainable(first), lora.trainable(second)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_each_expert_gets_an_adapter_and_all_of_them_answer_together(pair):
    keys = set(pair.state_dict())
    names = lora.attach(pair, SPEC, seed=0)
    assert len(names) == 4
    assert all(any(key.startswith(f"{name}.") for key in lora.trainable(pair)) for name in names)
    assert lora.get_spec(pair) == SPEC
    with pytest.raises(ValueError, match="has an adapter already"):
        lora.attach(pair, SPEC, seed=0)
    layers = [module for module in pair.modules() if hasattr(module, "_disable_adapters")]
    with lora.frozen(pair):
        assert all(layer._disable_adapters for layer in layers)
    assert not any(layer._disable_adapters for layer in layers)
    lora.set_strength(pair, 0.0)
    assert all(layer._disable_adapters for layer in layers)
    lora.detach(pair)
    assert set(pair.state_dict()) == keys
    assert lora.get_spec(pair) is None


def test_one_file_each_that_says_which(pair, tmp_path):
    bare = deepcopy(pair)
    lora.attach(pair, SPEC, seed=0)
    written = lora.save(stir(pair), tmp_path / "runs" / "lora.safetensors", {"note": "x"})
    assert [file.name for file in written] == ["lora-high.safetensors", "lora-low.safetensors"]
    for file, (name, reach) in zip(written, RANGES.items(), strict=True):
        metadata = files.header(file)[1]
        assert metadata["frisket.expert"] == name
        assert metadata["frisket.expert_range"] == str(list(reach))
        assert metadata["note"] == "x"
    assert lora.spec_of(tmp_path / "runs" / "lora.safetensors") == SPEC
    lora.load(bare, tmp_path / "runs" / "lora.safetensors")
    assert_same(bare, pair)


def test_a_file_of_one_goes_onto_its_own_expert(pair, tmp_path):
    bare = deepcopy(pair)
    lora.attach(pair, SPEC, seed=0)
    _, low = lora.save(stir(pair), tmp_path / "lora.safetensors", {})
    lora.load(bare, low)
    assert {name.split(".")[1] for name in lora.trainable(bare)} == {"low"}
    assert_same(bare.experts["low"], pair.experts["low"])
    again = lora.save(bare, tmp_path / "again.safetensors", {})
    assert [file.name for file in again] == ["again-low.safetensors"]
    plain = deepcopy(pair.experts["low"])
    lora.detach(plain)
    lora.load(plain, low)  # the expert alone, as a plain model
    assert_same(plain, pair.experts["low"])


def test_a_file_that_does_not_say_goes_where_the_caller_says(pair, tmp_path):
    bare = deepcopy(pair)
    lora.attach(pair, SPEC, seed=0)
    (silent,) = lora.save(stir(pair).experts["high"], tmp_path / "a.safetensors", {})
    with pytest.raises(AdapterMismatch, match=r"which expert it is for \(high, low\)"):
        lora.load(bare, silent)
    with pytest.raises(AdapterMismatch, match="no expert 'middle' is loaded"):
        lora.load(bare, silent, expert="middle")
    lora.load(bare, silent, expert="low")
    assert {name.split(".")[1] for name in lora.trainable(bare)} == {"low"}


def test_a_file_of_an_expert_that_is_not_loaded_is_refused(pair, tmp_path):
    lora.attach(pair, SPEC, seed=0)
    high, _ = lora.save(pair, tmp_path / "lora.safetensors", {})
    low = deepcopy(pair.experts["low"])
    lora.detach(low)
    only = Experts({"low": low}, RANGES)
    with pytest.raises(AdapterMismatch, match="is for the expert high; loaded are: low"):
        lora.load(only, high)
    with pytest.raises(AdapterMismatch, match="is for the expert high, not low"):
        lora.load(only, high, expert="low")
    with pytest.raises(FileNotFoundError, match=r"no gone-low\.safetensors beside it"):
        lora.load(only, tmp_path / "gone.safetensors")


def test_where_the_second_file_does_not_fit_the_first_is_taken_off_again(pair, tmp_path):
    bare = deepcopy(pair)
    lora.attach(pair, SPEC, seed=0)
    _, low = lora.save(pair, tmp_path / "lora.safetensors", {})
    low.write_bytes(low.read_bytes()[:-8])
    with pytest.raises(AdapterMismatch, match=r"lora-low\.safetensors is cut short"):
        lora.load(bare, tmp_path / "lora.safetensors")
    assert lora.get_spec(bare) is None
