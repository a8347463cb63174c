"""The pocket family's transformer: Wan's blocks in small, and where its cells are."""

import math
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.shared.pocket.text import WIDTH
from frisket.shapes import Latents, PerSample

PICTURE_CHANNELS = 12  # 2 x 2 pixels of 3 colours
PATCH = (1, 2, 2)  # cells a token has on a side: 4 pixels, 64 tokens a picture of 32
PERIODS = (4, 8, 16, 32)  # cells, of the waves that say where a cell is
PLACE_CHANNELS = 2 * 2 * len(PERIODS)  # sine and cosine, down and across


def build_transformer(blocks: int = 12, heads: int = 3, width: int = 32, hidden: int = 256) -> Any:
    """A fresh transformer of the shipped shape: 12 blocks of 96 features, 1.6 M parameters.

    `width` is that of one head, `hidden` that of a feed-forward layer.
    """
    return WanTransformer3DModel(
        patch_size=PATCH,
        num_attention_heads=heads,
        attention_head_dim=width,
        in_channels=PICTURE_CHANNELS + PLACE_CHANNELS,
        out_channels=PICTURE_CHANNELS,
        text_dim=WIDTH,
        freq_dim=64,
        ffn_dim=hidden,
        num_layers=blocks,
        rope_max_seq_len=64,
    )


def draw_transformer() -> Any:
    """A narrow random transformer of two blocks, seeded; torch's generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_transformer(blocks=2, heads=2, width=16, hidden=64)


def is_transformer(denoiser: nn.Module) -> bool:
    """Whether a denoiser, wrapped or bare, is the transformer and no UNet."""
    return "patch_size" in _unwrap(denoiser).config


def _unwrap(denoiser: nn.Module) -> Any:
    return getattr(denoiser, "module", denoiser)  # inside DistributedDataParallel


def draw_places(height: int, width: int) -> Float[Tensor, "p h w"]:
    """Waves over the cells' rows, then over their columns, PLACE_CHANNELS planes in [-1, 1].

    Rotary embeddings know distances alone, and the world's patterns begin at its upper left corner.
    """
    planes = []
    for period in PERIODS:
        down, across = (2 * math.pi / period * torch.arange(n) for n in (height, width))
        for wave in (torch.sin, torch.cos):
            planes.append(wave(down)[:, None].expand(height, width))
            planes.append(wave(across)[None].expand(height, width))
    return torch.stack(planes)


def predict_velocity(
    denoiser: nn.Module, noisy: Latents, t: PerSample, tokens: Float[Tensor, "b s d"]
) -> Latents:
    """The velocity of pictures (f = 1), float32; the transformer is told t * 1000.

    ValueError for a clip, and for an odd number of cells on a side.
    """
    frames, height, width = noisy.shape[2:]
    if frames != 1:
        raise ValueError(f"the pocket transformer makes pictures, not clips of {frames} frames")
    if height % PATCH[1] or width % PATCH[2]:
        raise ValueError(
            f"a token of the pocket transformer is {PATCH[1]} x {PATCH[2]} cells, and {height} x"
            f" {width} cells are no whole number of them: take sides of multiples of 4 pixels"
        )
    dtype = _unwrap(denoiser).patch_embedding.weight.dtype  # other weights may be kept float32
    places = draw_places(height, width).to(noisy.device)
    states = torch.cat([noisy, places[None, :, None].expand(len(noisy), -1, -1, -1, -1)], dim=1)
    velocity: Latents = denoiser(
        hidden_states=states.to(dtype),
        timestep=t.to(noisy.device) * 1000,
        encoder_hidden_states=tokens.to(noisy.device, dtype),
        return_dict=False,
    )[0]
    return velocity.float()
