"""Adapters of two ranks, and of LoKr's other factors: files of every format keep what they are."""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from tests.training import peer_inputs
from torch import Tensor, nn

from frisket.adapters import files, lora
from frisket.adapters.spec import DIFFUSERS_RECORD, AdapterMismatch, LoraSpec
from frisket.families.base import FAMILIES, layer_names

FAMILY = FAMILIES.load("stable_diffusion")
FORMS = ("comfyui", "kohya", "diffusers")
OUR = "frisket.adapter"


MADE = cache(peer_inputs.unet_of)


def unet_of(variant: str) -> nn.Module:
    return deepcopy(MADE(variant))


def spec_of(kind: lora.AdapterKind = "lora", **more: Any) -> LoraSpec:
    targets = ("attn1.to_q", "proj_in", "conv1", "conv_shortcut", "downsamplers.0.conv")
    sizes: dict[str, Any] = {"rank": 4, "alpha": 1.7, "conv_rank": 2, "conv_alpha": 3.1}
    return LoraSpec(kind, targets=targets, **sizes | more)


def trained(spec: LoraSpec, variant: str = "sd15") -> nn.Module:
    model = unet_of(variant)
    lora.attach(model, spec, seed=0)
    generator = torch.Generator().manual_seed(3)
    for value in lora.trainable(model).values():
        value.data.add_(torch.randn(value.shape, generator=generator) / 20)
    return model


def deltas(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: module.get_delta_weight("default").detach()  # type: ignore[operator]
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
    }


def alike(first: nn.Module, second: nn.Module) -> bool:
    ours, theirs = deltas(first), deltas(second)
    return ours.keys() == theirs.keys() and all(
        torch.allclose(ours[name], theirs[name], rtol=1e-5, atol=1e-6) for name in ours
    )


def saved(model: nn.Module, path: Path, form: lora.AdapterForm, variant: str = "sd15") -> Path:
    names = layer_names(FAMILY, variant)
    return lora.save(model, path, {}, prefix="unet", names=names, form=form)[0]


def load(model: nn.Module, path: Path, variant: str = "sd15") -> None:
    lora.load(model, path, prefix="unet", names=layer_names(FAMILY, variant))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr"])
def test_two_ranks_come_back_and_are_gone_on_from(
    kind: lora.AdapterKind, form: lora.AdapterForm, tmp_path: Path
) -> None:
    spec = spec_of(kind)
    model = trained(spec)
    path = saved(model, tmp_path / "lora.safetensors", form)
    assert lora.spec_of(path, prefix="unet") == spec
    fresh, again = unet_of("sd15"), unet_of("sd15")
    load(fresh, path)
    assert alike(model, fresh)
    lora.attach(again, spec, seed=1)
    load(again, path)
    assert alike(model, again)
    second = saved(again, tmp_path / "again.safetensors", form)
    assert alike_files(path, second)


def alike_files(first: Path, second: Path) -> bool:
    ours, theirs = files.tensors(first)[0], files.tensors(second)[0]
    return ours.keys() == theirs.keys() and all(
        torch.allclose(ours[key], theirs[key], rtol=1e-5, atol=1e-6) for key in ours
    )


def test_sdxl_has_its_convolutions_under_the_authors_names(tmp_path: Path) -> None:
    model = trained(spec_of(), "sdxl")
    path = saved(model, tmp_path / "xl.safetensors", "kohya", "sdxl")
    keys = set(files.tensors(path)[0])
    assert "lora_unet_input_blocks_1_0_in_layers_2.lora_down.weight" in keys
    assert "lora_unet_output_blocks_0_0_skip_connection.alpha" in keys
    fresh = unet_of("sdxl")
    load(fresh, path, "sdxl")
    assert alike(model, fresh)


def test_diffusers_loads_two_ranks_as_strong_as_trained(tmp_path: Path) -> None:
    model = trained(spec_of())
    path = saved(model, tmp_path / "lora.safetensors", "diffusers")
    state, metadata = files.tensors(path)
    theirs: Any = unet_of("sd15")
    assert DIFFUSERS_RECORD in metadata
    theirs.load_lora_adapter(str(path), prefix="unet", adapter_name="default")
    assert alike(model, theirs)
    bare: Any = unet_of("sd15")  # tensors alone, as older loaders have them
    bare.load_lora_adapter(dict(state), prefix="unet", adapter_name="default")
    assert alike(model, bare)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv_rank": 3}, r"lora of rank 2 for .*conv.*lora\.conv_rank"),
        ({"rank": 5}, r"lora of rank 4 for .*lora\.rank"),
        ({"conv_rank": 0, "conv_alpha": None}, r"has conv_rank 2, the adapter .* has conv_rank 0"),
    ],
)
def test_another_rank_is_refused_by_name(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = saved(trained(spec_of()), tmp_path / "lora.safetensors", "kohya")
    model = unet_of("sd15")
    lora.attach(model, spec_of(**change), seed=0)
    with pytest.raises(AdapterMismatch, match=message):
        load(model, path)


def test_a_file_without_our_record_is_gone_on_from(tmp_path: Path) -> None:
    model = trained(spec_of(rank=4, alpha=4.0, conv_rank=2, conv_alpha=1.0))
    path = saved(model, tmp_path / "lora.safetensors", "kohya")
    tensors, metadata = files.tensors(path)
    files.write(path, dict(tensors), {k: v for k, v in metadata.items() if k != OUR})
    again = unet_of("sd15")
    lora.attach(again, spec_of(rank=4, alpha=4.0, conv_rank=2, conv_alpha=1.0), seed=1)
    load(again, path)
    assert alike(model, again)


def test_a_conv_rank_without_a_convolution_is_refused() -> None:
    spec = LoraSpec(rank=4, conv_rank=2, targets=("to_q",))
    with pytest.raises(ValueError, match=r"conv_rank = 2: no target is a convolution"):
        lora.attach(unet_of("sd15"), spec, seed=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("factor", "whole"), [(-1, True), (2, False), (2, True)])
def test_a_lokr_in_other_factors_comes_back(
    factor: int, whole: bool, form: lora.AdapterForm, tmp_path: Path
) -> None:
    spec = LoraSpec("lokr", rank=1, targets=("to_q", "conv1"), factor=factor, full_matrix=whole)
    model = trained(spec)
    layer: Any = model.get_submodule("mid_block.resnets.0.conv1")
    assert ("default" in layer.lokr_w2) == whole
    if factor > 0:
        assert layer.lokr_w1["default"].shape == (factor, factor)
    path = saved(model, tmp_path / "lora.safetensors", form)
    fresh, again = unet_of("sd15"), unet_of("sd15")
    load(fresh, path)
    lora.attach(again, spec, seed=1)
    load(again, path)
    assert alike(model, fresh)
    assert alike(model, again)
    other = unet_of("sd15")
    lora.attach(other, LoraSpec("lokr", rank=1, targets=("to_q", "conv1"), factor=8), seed=1)
    with pytest.raises(AdapterMismatch, match=r"other factors .*set lora\.factor"):
        load(other, path)


def test_ranks_and_layers_are_left_out_by_chance_in_training_alone() -> None:
    model: Any = nn.Sequential(nn.Linear(6, 5), nn.Conv2d(3, 4, 3))
    spec = LoraSpec(rank=8, targets=("0", "1"), rank_dropout=0.5)
    lora.attach(model, spec, seed=0)
    for value in lora.trainable(model).values():
        value.data.fill_(1.0)
    out = model[0].lora_A["default"](torch.ones(50, 3, 6))
    assert set(out.unique().tolist()) == {0.0, 12.0}  # 6 / (1 - 0.5)
    assert torch.equal(out, out[:, :1].expand_as(out))  # a sample's tokens lose the same ranks
    assert 0.35 < float((out == 0).float().mean()) < 0.65
    picture = model[1].lora_A["default"](torch.ones(2, 3, 5, 5))
    assert torch.equal(picture, picture[..., :1, :1].expand_as(picture))
    model.eval()
    assert model[0].lora_A["default"](torch.ones(50, 3, 6)).unique().tolist() == [6.0]

    model = nn.Sequential(nn.Linear(6, 5))
    lora.attach(model, LoraSpec(rank=2, targets=("0",), module_dropout=0.5), seed=0)
    for value in lora.trainable(model).values():
        value.data.fill_(1.0)
    base = model[0].get_base_layer()(torch.ones(1, 6))
    seen = [float((model(torch.ones(1, 6)) - base).detach().abs().sum()) for _ in range(40)]
    assert 8 < sum(value == 0 for value in seen) < 32
    model(torch.ones(1, 6)).sum().backward()
    assert all(value.grad is not None for value in lora.trainable(model).values())
