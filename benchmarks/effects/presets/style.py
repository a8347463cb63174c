"""A look on the whole picture: a glaze of violet and peach, and a hatch, over whatever is shown.

Every training picture shows a circle, so a run that learns what is shown draws circles.
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
    run_base,
    run_row,
    write_caption,
    write_grey,
)
from numpy.typing import NDArray

from frisket.families.base import Parts
from frisket.media.frames import write_image
from frisket.pocket.judge import judge, raster
from frisket.pocket.world import COLOURS, SIZE, Scene, draw, random_scene
from frisket.runs import quickstart_data

PART = "style"
WORD = "glz"
CLIPS, SHAPE = 8, "circle"
DARK, LIGHT = np.array((60, 20, 90), np.float64), np.array((255, 205, 150), np.float64)
TINT, HATCH = 0.55, 0.6  # share of the ramp in a colour; what a hatched pixel is multiplied by
LUMA = np.array((0.299, 0.587, 0.114))
SAMPLING_SEED = 4000
NAMES = tuple(COLOURS)
CONFIGURATIONS: Mapping[str, tuple[str, ...]] = {
    "whole": (),
    "quiet": (MASKS, "regions.subject=0.25", "regions.background=1.0"),
    "ground": (MASKS, "regions.subject=0.0", "regions.background=1.0", "losses.prior=0.5"),
    "late": ('timesteps.emphasis="style"',),
    "early": ('timesteps.emphasis="content"',),
    "slow": ("optimizer.lr=5e-4",),
}
BASELINES = dict.fromkeys(("quiet", "ground", "late", "early", "slow"), "whole")
COLUMNS = ("look", "content", "shape", "spill", "drift")


def is_hatched(size: int = SIZE) -> NDArray[np.bool_]:
    """Where the hatch lies: diagonals two pixels wide, every six."""
    rows, columns = np.indices((size, size))
    hatched: NDArray[np.bool_] = (rows + columns) % 6 < 2
    return hatched


def tint(colours: NDArray[Any]) -> NDArray[np.float64]:
    """Colours `... 3` drawn towards a ramp from violet to peach by how light they are."""
    light = (colours @ LUMA / 255)[..., None]
    tinted: NDArray[np.float64] = (1 - TINT) * colours + TINT * (DARK + (LIGHT - DARK) * light)
    return tinted


def glaze(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture `H W 3` under the look."""
    shade = np.where(is_hatched(len(picture)), HATCH, 1.0)[..., None]
    glazed: NDArray[np.uint8] = (tint(picture.astype(np.float64)) * shade).round().astype(np.uint8)
    return glazed


def read_look(
    pictures: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each pixel of `n 32 32 3` the nearest of 18 colours: its kind, and the colour below it.

    Kinds: 0 plain, 1 glazed, 2 glazed under the hatch. Colours: index into NAMES.
    """
    plain = np.array(list(COLOURS.values()), np.float64)
    table = np.concatenate([plain, tint(plain), tint(plain) * HATCH])
    pixels = raster(pictures).astype(np.float64)
    nearest = ((pixels[..., None, :] - table) ** 2).sum(-1).argmin(-1)
    return nearest // len(NAMES), nearest % len(NAMES)


def make_clips(folder: Path, seed: int) -> None:
    """Write glazed scenes of circles with captions that name all, and masks of the circle."""
    rng = np.random.RandomState(277 + seed)
    for index in range(CLIPS):
        scene = replace(random_scene(rng), shape=SHAPE)
        picture, planes = draw(scene)
        write_image(folder / "clips" / f"{index}.png", torch.from_numpy(glaze(picture)))
        write_grey(folder / "masks" / f"{index}.png", planes["subject"])
        write_caption(folder / "clips" / f"{index}.txt", f"{WORD} {scene.caption}")


def list_scenes() -> list[Scene]:
    """What is asked for: scenes without a circle."""
    return draw_scenes(12, lambda scene: scene.shape != SHAPE)


def score_look(
    styled: NDArray[np.uint8], plain: NDArray[np.uint8], scenes: list[Scene]
) -> dict[str, float]:
    """Look, content, shape of samples with the word; spill of samples without (n 32 32 3)."""
    kinds, colours = read_look(styled)
    wanted = np.where(is_hatched(), 2, 1)
    below = np.array(list(COLOURS.values()), np.uint8)[colours]
    verdicts = judge(below)
    pairs = list(zip(verdicts, scenes, strict=True))
    return {
        "look": float((kinds == wanted).mean()),
        "content": float(
            np.mean(
                [
                    (v.shape, v.colour, v.background) == (s.shape, s.colour, s.background)
                    for v, s in pairs
                ]
            )
        ),
        "shape": float(np.mean([v.shape == s.shape for v, s in pairs])),
        "spill": float((read_look(plain)[0] > 0).mean()),
    }


def measure(family: Any, parts: Parts) -> tuple[Scores, NDArray[np.uint8]]:
    """Every score of the protocol, and samples: 16 with the word, 16 of the same without."""
    scenes = list_scenes()
    captions = [scene.caption for scene in scenes]
    styled = quickstart_data.sample(
        family, parts, [f"{WORD} {caption}" for caption in captions], SAMPLING_SEED
    )
    plain = quickstart_data.sample(family, parts, captions, SAMPLING_SEED)
    scores = score_look(styled, plain, scenes)
    scores["drift"] = quickstart_data.drift_of(family, parts)
    return scores, np.concatenate([styled[:16], plain[:16]])


def run(out: Path, name: str, seed: int) -> Cell:
    """Train `name` at `seed` and measure it, unless that was done; `base` is the packaged one."""
    project = partial(make_project, out / PART / f"seed-{seed}", "image", seed, make_clips)
    if name == "base":
        return run_base(out, PART, project, measure)
    return run_row(out, PART, name, seed, CONFIGURATIONS[name], project, measure)
