"""Pocket clips: moving scenes with exact label maps, as files."""

import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from frisket.maskgen.files.store import open_label_video
from frisket.media.frames import write_video
from frisket.pocket.world import ZIGZAG, Background, Scene, draw, frames_of

LEGEND = {"body": 1, "eye": 2, "legs": 3}


def draw_clip(
    frames: int, size: int, motion: str = "rightward", background: Background = ZIGZAG
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures F H W 3 and the exact label map of each, F H W."""
    scene = Scene(background, "sks", "", 16.0, 16.0, 8.0, motion)
    pictures, labels = [], []
    for moment in frames_of(scene, frames, 12 / frames):
        picture, planes = draw(moment, size)
        pictures.append(picture)
        stack = np.stack([np.full(picture.shape[:2], 0.5), *(planes[name] for name in LEGEND)])
        labels.append(stack.argmax(0).astype(np.uint8))
    return np.stack(pictures), np.stack(labels)


def write_clip(path: Path, pictures: NDArray[np.uint8], fps: float = 12) -> None:
    """Write a clip without loss."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, torch.from_numpy(pictures), fps, lossless=path.suffix == ".mkv")


def write_masks(path: Path, labels: NDArray[np.uint8], fps: float = 12) -> None:
    """Write label maps as `frisket masks` does, with a legend beside."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_label_video(path, fps, LEGEND) as add:
        for frame in labels:
            add(torch.from_numpy(frame))
    (path.parent / "legend.json").write_text(json.dumps(LEGEND))
