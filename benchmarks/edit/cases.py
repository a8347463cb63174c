"""Clips whose moving shape is recoloured: clip, mask, edited first frame, and the truth."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from frisket.config.editing.request import EditedRegion
from frisket.families.models.pocket import FAMILY
from frisket.media.frames import write_image, write_video
from frisket.pocket.world import (
    COLOURS,
    MOTIONS,
    Scene,
    draw,
    draw_background,
    frames_of,
    is_held_out,
    random_scene,
)
from frisket.runs.editing.plan import loosen

VARIANT, FRAMES, FPS = "video-i2v", 5, 8.0
CASES = 4
LEFT = 0.25  # of the picture outside the boxes of all frames, at least
Clip = NDArray[np.uint8]  # F H W 3


@dataclass(frozen=True)
class EditCase:
    """One clip and what is made of it."""

    scene: Scene
    edited: Scene
    scroll: float = 0.0  # pixels that the background moves a frame

    @cached_property
    def source(self) -> Clip:
        """The clip as it is."""
        return draw_clip(self.scene, self.scroll)

    @cached_property
    def truth(self) -> Clip:
        """The edited clip, drawn."""
        return draw_clip(self.edited, self.scroll)

    @cached_property
    def covered(self) -> NDArray[np.float32]:
        """How much of each pixel the shape covers, F H W."""
        frames = frames_of(self.scene, FRAMES)
        return np.stack([draw(scene)[1]["subject"] for scene in frames])

    @cached_property
    def boxes(self) -> NDArray[np.bool_]:
        """Where the clip is edited as `frisket edit` has it, F H W."""
        grid = FAMILY.variants[VARIANT].grid
        plane = torch.from_numpy(self.covered)
        return np.asarray(loosen(plane, EditedRegion(), grid).numpy() > 0.5)


def draw_clip(scene: Scene, scroll: float = 0.0) -> Clip:
    """A moving scene, frame by frame; its background moves `scroll` pixels down and right each."""
    frames = []
    for index, each in enumerate(frames_of(scene, FRAMES)):
        picture, planes = draw(each)
        if scroll:
            alpha = planes["subject"][..., None]
            ground = draw_background(each.background, phase=-scroll * index)
            paint = np.array(COLOURS[each.colour])
            picture = (ground * (1 - alpha) + paint * alpha).round().astype(np.uint8)
        frames.append(picture)
    return np.stack(frames)


def list_cases(seed: int, scroll: float = 0.0) -> list[EditCase]:
    """The cases of a seed: held-out captions, moving shapes, enough left outside the boxes.

    A background that scrolls is no wall.
    """
    rng, cases = np.random.RandomState(6_000 + seed), list[EditCase]()
    motions = tuple(name for name in MOTIONS if name != "still")
    while len(cases) < CASES:
        scene = random_scene(rng, motions=motions)
        background = scene.background
        free = [
            name
            for name in COLOURS
            if name not in (background.first, background.second, scene.colour)
        ]
        edited = replace(scene, colour=free[rng.randint(len(free))])
        case = EditCase(scene, edited, scroll)
        if not is_held_out(scene) or leaves_too_little(case):
            continue
        if scroll and background.pattern == "wall":
            continue
        cases.append(case)
    return cases


def leaves_too_little(case: EditCase) -> bool:
    """Whether the boxes of all frames together leave less than LEFT of the picture."""
    covered = torch.from_numpy(case.covered)
    if not (covered >= 0.5).flatten(1).any(1).all():
        return True
    try:
        boxes = case.boxes
    except ValueError:
        return True
    return bool(1 - boxes.any(0).mean() < LEFT)


def write_case(folder: Path, case: EditCase) -> None:
    """`clip/clip.mkv` with its caption, `mask.mkv`, `first.png`."""
    (folder / "clip").mkdir(parents=True, exist_ok=True)
    white = np.round(case.covered * 255).astype(np.uint8)[..., None].repeat(3, 3)
    write_video(folder / "clip" / "clip.mkv", torch.from_numpy(case.source), FPS, lossless=True)
    write_video(folder / "mask.mkv", torch.from_numpy(white), FPS, lossless=True)
    write_image(folder / "first.png", torch.from_numpy(case.truth[0]))
    (folder / "clip" / "clip.txt").write_text(case.scene.caption, encoding="utf-8")


def lay_side_by_side(clips: Sequence[Clip]) -> Clip:
    """Frames of clips, one clip after the other, n H W 3."""
    return np.concatenate(list(clips))
