"""A motion to be learnt from clips of one thing in one place: down and to the right at once.

Every training clip shows a red circle before the same stripes, so a run that learns what is shown
draws red circles, or the stripes.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.effects.cells import Cell, Scores
from benchmarks.effects.presets.project import (
    MASKS,
    draw_scenes,
    make_project,
    measure_clip_drift,
    run_base,
    run_row,
    write_caption,
    write_grey,
)
from numpy.typing import NDArray

from frisket.families.base import Parts
from frisket.inference.generate import generate
from frisket.media.frames import write_video
from frisket.pocket.judge import NAMES, PRESENT, judge, label
from frisket.pocket.world import SIZE, Background, Scene, draw

PART = "motion"
WORD = "diving"
CLIPS, FRAMES, STRIDE = 8, 5, 1.5
PATH = STRIDE * (FRAMES - 1)  # pixels the subject goes down, and to the right
SUBJECT, COLOUR = "circle", "red"
GROUND = Background("stripes", "white", "blue")
SAMPLING_SEED = 5000
WHOLE_PATH = 'data.0.masks={source="folder", path="paths"}'
PRIOR = "losses.prior=0.5"
CONFIGURATIONS: Mapping[str, tuple[str, ...]] = {
    "whole": (),
    "mask": (MASKS,),
    "prior": (MASKS, PRIOR),
    "path": (WHOLE_PATH, PRIOR),
    "early": ('timesteps.emphasis="content"',),
    "swap": (WHOLE_PATH, PRIOR, "swap.rate=0.5"),
}
BASELINES = {
    "mask": "whole",
    "prior": "mask",
    "path": "prior",
    "early": "whole",
    "swap": "path",
}
COLUMNS = ("right", "moves", "kept", "drift")


def draw_clip(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A scene in the new motion: frames `5 32 32 3` and the subject's cover in each."""
    shifts = (np.arange(FRAMES) - (FRAMES - 1) / 2) * STRIDE
    drawn = [draw(replace(scene, x=scene.x + s, y=scene.y + s, motion="")) for s in shifts]
    return np.stack([d[0] for d in drawn]), np.stack([d[1]["subject"] for d in drawn])


def make_clips(folder: Path, seed: int) -> None:
    """clips/N.mkv with captions, masks/N.mkv (a mask a frame), paths/N.png (all places)."""
    rng = np.random.RandomState(377 + seed)
    for name in ("clips", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index in range(CLIPS):
        x, y = rng.uniform(11, 21, 2)
        radius = rng.uniform(6.5, 9.5)
        scene = Scene(GROUND, SUBJECT, COLOUR, float(x), float(y), float(radius), WORD)
        frames, covers = draw_clip(scene)
        grey = np.repeat((covers * 255).round().astype(np.uint8)[..., None], 3, axis=-1)
        for name, pixels in (("clips", frames), ("masks", grey)):
            write_video(folder / name / f"{index}.mkv", torch.from_numpy(pixels), 8, lossless=True)
        write_grey(folder / "paths" / f"{index}.png", covers.max(0))
        write_caption(folder / "clips" / f"{index}.txt", scene.caption)


def list_scenes() -> list[Scene]:
    """What is asked for: other shapes in other colours before other backgrounds, diving."""
    scenes = draw_scenes(
        13, lambda s: s.shape != SUBJECT and s.colour != COLOUR and s.background != GROUND
    )
    return [replace(scene, motion=WORD) for scene in scenes]


def find_centre(picture: NDArray[np.uint8], colour: str) -> NDArray[np.float64] | None:
    """Mean place (x, y) of the pixels of a colour; None for fewer than PRESENT."""
    places = np.argwhere(label(picture[None])[0] == NAMES.index(colour))
    if len(places) < PRESENT:
        return None
    centre: NDArray[np.float64] = places.mean(0)[::-1]
    return centre


def dives(clip: NDArray[np.uint8], colour: str) -> bool:
    """Whether the pixels of a colour go half the path or more, down and to the right."""
    first, last = find_centre(clip[0], colour), find_centre(clip[-1], colour)
    if first is None or last is None:
        return False
    return bool(((last - first) >= PATH / 2).all())


def score_clips(clips: NDArray[np.uint8], scenes: list[Scene]) -> dict[str, float]:
    """Shares of `n 5 32 32 3` that move as asked, that show what was asked, that do both.

    moves: `dives` for the colour asked for. kept: shape, colour and background of the middle frame
    are those asked for.
    """
    moves = np.array([dives(clip, s.colour) for clip, s in zip(clips, scenes, strict=True)])
    verdicts = judge(clips[:, FRAMES // 2])
    kept = np.array(
        [
            (v.shape, v.colour, v.background) == (s.shape, s.colour, s.background)
            for v, s in zip(verdicts, scenes, strict=True)
        ]
    )
    return {
        "right": float((moves & kept).mean()),
        "moves": float(moves.mean()),
        "kept": float(kept.mean()),
    }


def measure(family: Any, parts: Parts) -> tuple[Scores, NDArray[np.uint8]]:
    """Every score of the protocol, and samples: of 8 clips the first, middle and last frame."""
    scenes = list_scenes()
    pictures = generate(
        family,
        parts,
        [scene.caption for scene in scenes],
        seeds=range(SAMPLING_SEED, SAMPLING_SEED + len(scenes)),
        height=SIZE,
        width=SIZE,
        frames=FRAMES,
    )
    clips = np.stack([np.asarray(picture.frames) for picture in pictures])
    scores = score_clips(clips, scenes)
    scores["drift"] = measure_clip_drift(family, parts)
    return scores, np.concatenate([clips[:8, frame] for frame in (0, FRAMES // 2, FRAMES - 1)])


def run(out: Path, name: str, seed: int) -> Cell:
    """Train `name` at `seed` and measure it, unless that was done; `base` is the packaged one."""
    project = partial(make_project, out / PART / f"seed-{seed}", "video", seed, make_clips)
    if name == "base":
        return run_base(out, PART, project, measure)
    return run_row(out, PART, name, seed, CONFIGURATIONS[name], project, measure)
