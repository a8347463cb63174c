"""Runs under control on the tiny models of every family that takes a ControlNet."""

from pathlib import Path
from typing import Any

import torch
from tests.recipes.test_train_families import picture
from tests.runs.control.scene import write_model

from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.families.control.base import CONTROLS
from frisket.media.frames import write_image, write_video

FRAMES = 5


def list_variants() -> list[tuple[str, str]]:
    """One variant of each code path that takes a ControlNet."""
    return [
        (name, variant)
        for name in CONTROLS.names()
        for variant, card in FAMILIES.load(name).variants.items()
        if not card.like and not CONTROLS.load(name).refuse(variant)
    ]


def write_clips(folder: Path) -> Path:
    """Two stills of 64 pixels and two clips of five frames, with masks; controls are inverted."""
    for name in ("stills", "still-masks", "still-controls", "clips", "clip-masks", "clip-controls"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(2):
        painted, cover = picture(number)
        write_image(folder / "stills" / f"{number}.png", painted)
        write_image(folder / "still-masks" / f"{number}.png", cover)
        write_image(folder / "still-controls" / f"{number}.png", 255 - painted)
        frames = [picture(10 * number + index, 32) for index in range(FRAMES)]
        pixels, masks = (torch.stack(each) for each in zip(*frames, strict=True))
        for name, clip in (
            ("clips", pixels),
            ("clip-masks", masks),
            ("clip-controls", 255 - pixels),
        ):
            write_video(folder / name / f"{number}.mkv", clip, 16, lossless=True)
    return folder


def config_of(
    world: Path, output: Path, family: str, variant: str, train: str = "lora", **sections: Any
) -> Config:
    """A run of two steps on a tiny model of a family, under control."""
    card = FAMILIES.load(family).variants[variant]
    model = write_model(world, family, variant)
    kind = "clip" if card.video else "still"
    data = {
        "clips": world / f"{kind}s",
        "masks": world / f"{kind}-masks",
        "control": world / f"{kind}-controls",
        "caption": "sks",
        "resolution": 32 if card.video else 64,
        "frames": FRAMES if card.video else 1,
    }
    tree: dict[str, Any] = {
        "model": {
            "family": family, "variant": variant, "source": str(model), "device": "cpu",
            "train": train,
        },
        "data": [data],
        "control": {"source": f"{model}-net", "dropout": 0.0} if train == "lora" else {},
        "lora": {"rank": 2} if train == "lora" else {},
        "optimizer": {"lr": 1e-2},
        "losses": {"prior": 0.5},
        "run": {"output": output, "cache": world / "cache", "steps": 2, "save_every": 0},
    }  # fmt: skip
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    return Config.model_validate(tree)
