"""Clips to make masks for, and the run as tests call it."""

from pathlib import Path

import numpy as np
import torch

from frisket.media.frames import write_video
from frisket.pocket.world import Background, Scene, draw, frames_of
from frisket.recipes.masks.make import masks
from frisket.recipes.masks.request import Asked

PHOTOS = Path(__file__).parents[2] / "examples" / "photos" / "clips"
WALL = Background("wall", "white", "white")


def video(folder: Path, frames: int = 9) -> Path:
    scene = Scene(WALL, "circle", "red", 14.0, 16.0, 8.0, "rightward")
    pictures = np.stack([draw(one, 96)[0] for one in frames_of(scene, frames, 0.5)])
    write_video(folder / "roll.mkv", torch.from_numpy(pictures), 8.0, lossless=True)
    return folder / "roll.mkv"


def run(folder: Path, **options):
    return masks(Asked(folder, workers=1, **options))
