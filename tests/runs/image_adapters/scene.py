"""A tiny image encoder on disk, and a run that trains an image adapter through it."""

from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.families.models.pocket.family import FAMILY
from frisket.runs import quickstart_data
from frisket.runs.image_adapters.setup import attach_image_adapter
from frisket.runs.prepare import source_of

diffusers_logging.disable_progress_bar()


def write_encoder(folder: Path, *, projection: int = 24) -> Path:
    """Random weights, two layers of 64 channels, pictures of 32 pixels; returns the folder."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
        projection_dim=projection,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def write_world(folder: Path) -> Path:
    """Tiny random pocket models (UNet and transformer), a little data set and an encoder."""
    for variant in ("image", "dit"):
        FAMILY.save(FAMILY.tiny(variant), folder / variant)
    quickstart_data.make_clips(folder / "data", seed=0)
    write_encoder(folder / "encoder")
    return folder


def config_of(world: Path, output: Path, variant: str = "image", **sections: Any) -> Config:
    """A run of a few steps on a tiny pocket model; tables are laid over its own."""
    tree: dict[str, Any] = {
        "model": {
            "variant": variant,
            "source": str(world / variant),
            "device": "cpu",
            "train": "image_adapter",
        },
        "image_adapter": {"encoder": world / "encoder"},
        "data": [{"clips": world / "data" / "clips", "masks": world / "data" / "masks"}],
        "optimizer": {"lr": 1e-2},
        "validation": {"holdout": 2, "t": (0.4, 0.8)},
        "preview": {"steps": 2},
        "run": {"cache": world / "cache", "steps": 4, "batch": 2, "save_every": 2},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    tree["run"]["output"] = output
    return Config.model_validate(tree)


def measure_adapter(config: Config) -> float:
    """MiB of the adapter's weights, as they are put on the loaded denoiser in float32."""
    family = FAMILIES.load(config.model.family)
    denoiser = family.load_denoiser(source_of(config, family))
    adapter = attach_image_adapter(config, family, denoiser)
    return sum(value.numel() * 4 for value in adapter.parameters()) / 2**20
