"""A little data set with control pictures, tiny models on disk, and runs under control."""

from pathlib import Path
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging

from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.families.control.base import CONTROLS
from frisket.families.experts import first
from frisket.media.frames import decode, write_image
from frisket.runs import quickstart_data

diffusers_logging.disable_progress_bar()


def write_model(folder: Path, family: str, variant: str) -> Path:
    """A tiny random model, and beside it (`-net`) a ControlNet that adds something to it."""
    shelf = FAMILIES.load(family)
    path = folder / f"{family}-{variant}"
    if not path.exists():
        parts = shelf.tiny(variant)
        shelf.save(parts, path)
        assert parts.denoiser is not None
        net: Any = CONTROLS.load(family).tiny(first(parts.denoiser))
        net.save_pretrained(folder / f"{family}-{variant}-net")
    return path


def write_world(folder: Path) -> Path:
    """Eight clips of 32 pixels with masks, and controls: the mask's edges, in grey."""
    quickstart_data.make_clips(folder / "data", seed=0)
    for path in sorted((folder / "data" / "masks").glob("*.png")):
        mask = decode(path).float()[0, ..., 0]
        across, down = torch.zeros_like(mask), torch.zeros_like(mask)
        across[:, 1:], down[1:] = mask[:, 1:] - mask[:, :-1], mask[1:] - mask[:-1]
        edges = torch.maximum(across.abs(), down.abs()).to(torch.uint8)
        write_image(folder / "data" / "control" / path.name, edges[..., None].repeat(1, 1, 3))
    write_model(folder, "pocket", "image")
    return folder


def config_of(world: Path, output: Path, train: str = "lora", **sections: Any) -> Config:
    """A run of a few steps on a tiny pocket model; tables are laid over its own."""
    data = world / "data"
    tree: dict[str, Any] = {
        "model": {
            "variant": "image",
            "source": str(world / "pocket-image"),
            "device": "cpu",
            "train": train,
        },
        "data": [{"clips": data / "clips", "masks": data / "masks", "control": data / "control"}],
        "control": {"source": world / "pocket-image-net"} if train == "lora" else {},
        "lora": {"rank": 2} if train == "lora" else {},
        "optimizer": {"lr": 1e-2},
        "validation": {"holdout": 2, "t": (0.4, 0.8)},
        "preview": {"steps": 2},
        "run": {"cache": world / "cache", "steps": 4, "batch": 2, "save_every": 2},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    tree["run"]["output"] = output
    return Config.model_validate(tree)
