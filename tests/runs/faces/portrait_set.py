"""A data set of procedural portraits: pictures, masks of the face, key points beside them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from frisket.pocket.portraits import (
    ProceduralPerson,
    ProceduralPortrait,
    draw_person,
    sample_person,
    sample_view,
)

SIDE = 64


def write_keypoints(path: Path, size: tuple[int, int], *faces: np.ndarray, frame: int = 0) -> None:
    """Key points of the faces of one frame; `size` is width and height."""
    entries = [{"frame": frame, "points": np.round(points, 3).tolist()} for points in faces]
    path.write_text(json.dumps({"size": list(size), "faces": entries}))


def draw_portraits(
    count: int, seed: int = 0, side: int = SIDE
) -> tuple[ProceduralPerson, list[ProceduralPortrait]]:
    """Several pictures of one person."""
    rng = np.random.RandomState(seed)
    person = sample_person(rng)
    return person, [draw_person(person, sample_view(rng, spread=0.5), side) for _ in range(count)]


def write_portraits(folder: Path, count: int = 4, *, seed: int = 0, side: int = SIDE) -> Path:
    """`clips` with captions and key points, `masks` of the faces, below `folder`."""
    clips, masks = folder / "clips", folder / "masks"
    clips.mkdir(parents=True)
    masks.mkdir()
    for number, portrait in enumerate(draw_portraits(count, seed, side)[1]):
        Image.fromarray(portrait.picture).save(clips / f"p{number}.png")
        (clips / f"p{number}.txt").write_text("sks person")
        plane = (portrait.planes["face"] * 255).round().astype(np.uint8)
        Image.fromarray(plane).save(masks / f"p{number}.png")
        write_keypoints(clips / f"p{number}.keypoints.json", (side, side), portrait.keypoints)
    return folder
