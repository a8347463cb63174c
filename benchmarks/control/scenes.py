"""Scenes, their silhouettes, and the creature that always stands at one place."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from frisket.pocket.world import (
    Scene,
    draw,
    is_held_out,
    random_background,
    random_scene,
)
from frisket.shapes import Clip

PLACE, RADIUS, STRAY = (12.0, 20.0), 8.0, 0.5  # of the creature's training pictures
AWAY, NEAR = 5.0, 3.0  # pixels from that place: of asked ones at least, of leaked ones at most


def list_scenes(rng: np.random.RandomState, count: int, *, held_out: bool = False) -> list[Scene]:
    """Corpus scenes with a shape; `held_out`: of captions that no training shows."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng)
        if is_held_out(scene) == held_out:
            scenes.append(scene)
    return scenes


def place_creature(rng: np.random.RandomState) -> Scene:
    """The creature at its trained place, before a background of the corpus."""
    x, y = (centre + rng.uniform(-STRAY, STRAY) for centre in PLACE)
    return Scene(random_background(rng), "sks", "", float(x), float(y), RADIUS)


def place_creature_away(rng: np.random.RandomState) -> Scene:
    """The creature somewhere else."""
    while True:
        x, y = rng.uniform(11, 21, 2)
        if np.hypot(x - PLACE[0], y - PLACE[1]) >= AWAY:
            return Scene(random_background(rng), "sks", "", float(x), float(y), RADIUS)


def draw_silhouette(scene: Scene) -> NDArray[np.float32]:
    """How much of each pixel the subject covers, H W in [0, 1]; 0 without one."""
    picture, planes = draw(scene)
    covered = sum(planes.values(), np.zeros(picture.shape[:2], np.float32))
    return np.clip(covered, 0, 1).astype(np.float32)


def stack_pictures(scenes: Sequence[Scene]) -> Clip:
    """Drawn scenes b 3 1 H W in [-1, 1]."""
    pictures = np.stack([draw(scene)[0] for scene in scenes])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)[:, :, None].float() / 127.5 - 1


def stack_silhouettes(scenes: Sequence[Scene]) -> Clip:
    """Control clips b 3 1 H W in [0, 1]."""
    planes = torch.from_numpy(np.stack([draw_silhouette(scene) for scene in scenes]))
    return planes[:, None, None].expand(-1, 3, -1, -1, -1)


def write_scenes(folder: Path, scenes: Sequence[Scene], controls: Any = None) -> None:
    """Pictures with captions, masks and control pictures (n H W 3 uint8), as a folder data set."""
    if (folder / "done").is_file():
        return
    for name in ("clips", "masks", "control"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, scene in enumerate(scenes):
        silhouette = (draw_silhouette(scene) * 255).round().astype(np.uint8)
        control = controls[index] if controls is not None else silhouette[..., None].repeat(3, 2)
        Image.fromarray(draw(scene)[0]).save(folder / "clips" / f"{index:03}.png")
        Image.fromarray(silhouette).save(folder / "masks" / f"{index:03}.png")
        Image.fromarray(control).save(folder / "control" / f"{index:03}.png")
        (folder / "clips" / f"{index:03}.txt").write_text(scene.caption, encoding="utf-8")
    (folder / "done").touch()


def move(scene: Scene, x: float, y: float) -> Scene:
    """The scene with its subject elsewhere."""
    return replace(scene, x=x, y=y)
