"""The released Wan models: repositories, sampling defaults, architectures and layer names."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from frisket.families.base import Variant
from frisket.families.key_map import Names
from frisket.grid import LatentGrid

GRID = LatentGrid(channels=16, spatial=8, temporal=4, patch=2)
GRID_5B = LatentGrid(channels=48, spatial=16, temporal=4, patch=2)  # the VAE of TI2V-5B
GRIDS = {grid.channels: grid for grid in (GRID, GRID_5B)}

FOLDERS = {"high": "transformer", "low": "transformer_2"}  # where diffusers keeps the experts

_TEXT = Variant(
    repo="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    grid=GRID,
    frames=81,
    height=480,
    width=832,
    fps=16.0,
    steps=30,
    guidance=5.0,
    shift=3.0,  # the authors' for 480p; 720p takes 5 ([timesteps] shift)
    architecture="wan2.1",
)
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")
_IMAGE = replace(
    _TEXT,
    repo="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
    steps=40,
    sees="first_frame",
    # Its blocks look at the picture too (k_img and v_img; musubi and diffusion-pipe train them).
    lora_targets=(*LORA_TARGETS, "add_k_proj", "add_v_proj"),
)
# Shift, steps, guidance and boundary of 2.2 are those of the authors' wan/configs.
_EXPERTS = replace(
    _TEXT,
    repo="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    steps=40,
    guidance=4.0,  # of the high-noise expert; see LOW_GUIDANCE
    shift=12.0,
    experts={"high": (0.875, 1.0), "low": (0.0, 0.875)},
    architecture="wan2.2",
)
_SMALL = replace(
    _TEXT,
    repo="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    grid=GRID_5B,
    frames=121,
    height=704,
    width=1280,
    fps=24.0,
    steps=50,
    shift=5.0,
    architecture="wan2.2",
)

VARIANTS: Mapping[str, Variant] = {
    "2.1-t2v-1.3b": _TEXT,
    "2.1-t2v-14b": replace(_TEXT, repo="Wan-AI/Wan2.1-T2V-14B-Diffusers", like="2.1-t2v-1.3b"),
    "2.1-i2v-14b-480p": _IMAGE,
    "2.1-i2v-14b-720p": replace(
        _IMAGE,
        repo="Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
        height=720,
        width=1280,
        shift=5.0,
        like="2.1-i2v-14b-480p",
    ),
    "2.2-t2v-a14b": _EXPERTS,
    "2.2-i2v-a14b": replace(
        _EXPERTS,
        repo="Wan-AI/Wan2.2-I2V-A14B-Diffusers",
        guidance=3.5,
        shift=5.0,
        sees="first_frame",
        experts={"high": (0.9, 1.0), "low": (0.0, 0.9)},
    ),
    "2.2-ti2v-5b": _SMALL,
    "2.2-ti2v-5b-i2v": replace(_SMALL, sees="first_frame", hands_over=True),
}

# Where the authors guide the low-noise expert less: its share of the high-noise expert's guidance
# beyond 1 (4 and 3 by default).
LOW_GUIDANCE = {"2.2-t2v-a14b": 2 / 3}

# What a transformer/config.json of these repositories says beyond diffusers' own defaults (those
# are of the 14B model): a single file carries no configuration, and asking the hub for one would
# break offline use.
_14B: dict[str, Any] = {"num_attention_heads": 40, "num_layers": 40, "ffn_dim": 13824}
_14B_IMAGE = {**_14B, "in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
_5B = {
    "num_attention_heads": 24,
    "num_layers": 30,
    "ffn_dim": 14336,
    "in_channels": 48,
    "out_channels": 48,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "2.1-t2v-1.3b": {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960},
    "2.1-t2v-14b": _14B,
    "2.1-i2v-14b-480p": _14B_IMAGE,
    "2.1-i2v-14b-720p": _14B_IMAGE,
    "2.2-t2v-a14b": _14B,
    "2.2-i2v-a14b": {**_14B, "in_channels": 36},
    "2.2-ti2v-5b": _5B,
    "2.2-ti2v-5b-i2v": _5B,
}


def _attention(original: str, ours: str) -> dict[str, str]:
    ends = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
    return {f"blocks.{{}}.{original}.{a}": f"blocks.{{}}.{ours}.{b}" for a, b in ends.items()}


NAMES = Names(
    {
        "patch_embedding": "patch_embedding",
        "text_embedding.0": "condition_embedder.text_embedder.linear_1",
        "text_embedding.2": "condition_embedder.text_embedder.linear_2",
        "time_embedding.0": "condition_embedder.time_embedder.linear_1",
        "time_embedding.2": "condition_embedder.time_embedder.linear_2",
        "time_projection.1": "condition_embedder.time_proj",
        "img_emb.proj.1": "condition_embedder.image_embedder.ff.net.0.proj",
        "img_emb.proj.3": "condition_embedder.image_embedder.ff.net.2",
        **_attention("self_attn", "attn1"),
        **_attention("cross_attn", "attn2"),
        "blocks.{}.cross_attn.k_img": "blocks.{}.attn2.add_k_proj",
        "blocks.{}.cross_attn.v_img": "blocks.{}.attn2.add_v_proj",
        "blocks.{}.ffn.0": "blocks.{}.ffn.net.0.proj",
        "blocks.{}.ffn.2": "blocks.{}.ffn.net.2",
        "head.head": "proj_out",
    }
)


def list_expected(variant: str) -> dict[str, int]:
    """What the configuration of the variant's denoiser must say (see `weights.expect`)."""
    channels = VARIANTS[variant].grid.channels
    known = ARCHITECTURES[variant]
    return {"in_channels": known.get("in_channels", channels), "out_channels": channels}


def has_clip(variant: str) -> bool:
    """Whether the variant looks at the first frame through a CLIP as well (Wan 2.1 I2V)."""
    return ARCHITECTURES[variant].get("image_dim") is not None


def describe(variant: str) -> str:
    """What the variant's denoiser is, for messages: `Wan 2.1 text-to-video transformer`."""
    series, kind = variant.split("-")[:2]
    words = {"t2v": "text-to-video", "i2v": "image-to-video", "ti2v": "text-and-image-to-video"}
    return f"Wan {series} {words[kind]} transformer"
