"""diffusers' own converters, which know real widths only, read our files to the same effect."""

import pytest
import torch
from diffusers.loaders.lora_conversion_utils import (
    _convert_hunyuan_video_lora_to_diffusers,
    _convert_kohya_flux_lora_to_diffusers,
)
from torch import Tensor

from frisket.adapters import files, writing
from frisket.adapters.arithmetic import delta
from frisket.adapters.layers import A, B, Layer, Layers
from frisket.families.models.flux.family import FAMILY as FLUX
from frisket.families.models.hunyuan_video.family import FAMILY as HUNYUAN

WIDTH = 3072  # of both models; written into diffusers' converters
DOUBLE = [f"transformer_blocks.0.attn.{name}" for name in ("to_q", "to_k", "to_v")]
SINGLE = [f"single_transformer_blocks.0.attn.{name}" for name in ("to_q", "to_k", "to_v")]


def adapter(alpha: float | None) -> Layers:
    generator = torch.Generator().manual_seed(3)
    sizes = dict.fromkeys([*DOUBLE, *SINGLE, "transformer_blocks.0.attn.to_out.0"], WIDTH)
    sizes["single_transformer_blocks.0.proj_mlp"] = 4 * WIDTH
    return {
        name: Layer(
            "lora",
            {
                A: torch.randn(2, WIDTH, generator=generator),
                B: torch.randn(size, 2, generator=generator),
            },
            2,
            alpha,
        )
        for name, size in sizes.items()
    }


def effects(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A few rows of what each layer of a converted file adds."""
    ends = (".lora_A.weight", ".lora_B.weight")
    names = {key.removesuffix(ends[0]) for key in state if key.endswith(ends[0])}
    return {
        name.removeprefix("transformer."): state[name + ends[1]][:64] @ state[name + ends[0]]
        for name in names
    }


@pytest.mark.parametrize("alpha", [None, 1.0, 3.0])
def test_kohya_keys_of_flux(tmp_path, alpha):
    layers = adapter(alpha)
    writing.write(tmp_path / "a.safetensors", layers, {}, form="kohya", names=FLUX.names)
    found = effects(
        _convert_kohya_flux_lora_to_diffusers(files.tensors(tmp_path / "a.safetensors")[0])
    )
    assert found.keys() == layers.keys()
    for name, layer in layers.items():
        torch.testing.assert_close(found[name], delta(layer)[:64])


def test_comfyui_keys_of_hunyuan_video(tmp_path):
    layers = adapter(None)  # diffusers' converter knows no alpha: at alpha = rank we write none
    writing.write(tmp_path / "a.safetensors", layers, {}, names=HUNYUAN.names)
    found = effects(
        _convert_hunyuan_video_lora_to_diffusers(files.tensors(tmp_path / "a.safetensors")[0])
    )
    assert found.keys() == layers.keys()
    for name, layer in layers.items():
        torch.testing.assert_close(found[name], delta(layer)[:64])
