"""What T-LoRA's authors' code and ours are both given: a tiny UNet, LoRA weights, inputs, ranks."""

import zlib

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

RANK = 8
LAYERS = ("to_q", "to_k", "to_v", "to_out.0")
TIMESTEPS = (0, 1, 100, 250, 333, 500, 700, 750, 900, 937, 999, 1000)
SCHEDULES = ((8, 4, 1.0), (64, 32, 1.0), (8, 4, 2.0), (16, 1, 0.5))  # rank, least, power


def build_unet() -> UNet2DConditionModel:
    """Eight attention layers of 64 channels, random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=8,
            norm_num_groups=8,
        )
    return unet.eval().requires_grad_(False)


def draw(name: str, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal values by name: the same for both sides."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(*shape, generator=generator) * scale


def draw_weights(layer: str, inputs: int, outputs: int) -> dict[str, Tensor]:
    """Weights of one LoRA: what is trained, and the frozen copy of an orthogonal one."""
    weights = {}
    for part in ("", "base."):
        weights[f"{part}down"] = draw(f"{layer}.{part}down", RANK, inputs, scale=0.1)
        weights[f"{part}up"] = draw(f"{layer}.{part}up", outputs, RANK, scale=0.1)
        weights[f"{part}singular"] = draw(f"{layer}.{part}singular", RANK).abs()
    return weights


def draw_inputs() -> dict[str, Tensor]:
    """Latents, timesteps and text of two samples."""
    return {
        "sample": draw("sample", 2, 4, 8, 8),
        "timestep": torch.tensor([250, 900]),
        "text": draw("text", 2, 7, 32),
    }
