"""One subject in company: training pictures with a bystander, and the phantoms it leaves."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from frisket.disk.atomic import replacing
from frisket.media.frames import write_image
from frisket.pocket.judge import MATCH_DB, NAMES, find_creature, label
from frisket.pocket.world import (
    COLOURS,
    Background,
    Scene,
    draw,
    random_creature,
    shape_alpha,
)

BYSTANDER, COLOUR, RADIUS = "square", "red", 4.5
CORNERS = ((5.0, 5.0), (27.0, 5.0), (5.0, 27.0), (27.0, 27.0))
JITTER = 1.0  # pixels the bystander stands away from its corner, at most
PATCH = 16  # connected pixels that make a stray: a quarter of the bystander
GROWN = 2  # pixels round the subject that may have any colour


def draw_company(scene: Scene, rng: np.random.RandomState) -> tuple[NDArray, NDArray, NDArray]:
    """A creature with the bystander in the corner farthest from it.

    Returns the picture (uint8 32 32 3), the creature's cover and the bystander's (32 32 in [0, 1],
    disjoint).
    """
    picture, planes = draw(scene)
    cover = np.clip(sum(planes.values()), 0, 1)
    x, y = max(CORNERS, key=lambda spot: np.hypot(spot[0] - scene.x, spot[1] - scene.y))
    right, down = rng.uniform(-JITTER, JITTER, 2)
    alpha = shape_alpha(BYSTANDER, x + right, y + down, RADIUS)
    paint = np.array(COLOURS[COLOUR], np.float32)
    mixed = picture * (1 - alpha[..., None]) + paint * alpha[..., None]
    return mixed.round().astype(np.uint8), cover, alpha


def make_clips(folder: Path, seed: int, count: int = 8) -> None:
    """Write `count` pictures of the creature `sks` with the bystander, masks and captions ("sks").

    The masks are the creature's exact cover: the bystander is background, of weight 0.
    """
    rng = np.random.RandomState(77 + seed)
    for index in range(count):
        picture, cover, _ = draw_company(random_creature(rng), rng)
        grey = np.repeat((cover * 255).round().astype(np.uint8)[..., None], 3, axis=-1)
        write_image(folder / "clips" / f"{index}.png", torch.from_numpy(picture))
        write_image(folder / "masks" / f"{index}.png", torch.from_numpy(grey))
        with replacing(folder / "clips" / f"{index}.txt") as draft:
            draft.write_text("sks\n", encoding="utf-8")


def measure_patch(mask: NDArray[np.bool_]) -> int:
    """Pixels of the largest 4-connected patch of a mask `H W`."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:  # every pixel takes the largest number among its neighbours, until none changes
        padded = np.pad(labels, 1)
        around = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
        spread = np.where(mask, np.maximum.reduce([labels, *around]), 0)
        if (spread == labels).all():
            break
        labels = spread
    sizes = np.bincount(labels[mask]) if mask.any() else np.zeros(1, int)
    return int(sizes.max())


def find_phantoms(pictures: NDArray[np.uint8], backgrounds: list[Background]) -> dict[str, float]:
    """Strays on samples (n 32 32 3) prompted for the creature alone before `backgrounds`.

    phantom: share with a connected patch of PATCH pixels of the bystander's colour, of the samples
        whose background has not that colour.
    stray: share with such a patch of any colour that the background has not, outside the creature's
        best template (grown by GROWN pixels); of the samples on which the creature is found at all
        (NaN where it is on none).
    """
    painted = label(pictures)
    psnr, alphas = find_creature(pictures)
    grown = torch.nn.functional.max_pool2d(
        torch.from_numpy(alphas)[:, None], 2 * GROWN + 1, 1, GROWN
    )[:, 0].numpy()
    phantoms, strays = [], []
    for index, background in enumerate(backgrounds):
        wanted = {background.first, background.second}
        if COLOUR not in wanted:
            phantoms.append(measure_patch(painted[index] == NAMES.index(COLOUR)) >= PATCH)
        if psnr[index] >= MATCH_DB:
            outside = grown[index] < 0.5
            others = [NAMES.index(name) for name in NAMES if name not in wanted]
            largest = max(measure_patch((painted[index] == name) & outside) for name in others)
            strays.append(largest >= PATCH)
    return {
        "phantom": float(np.mean(phantoms)) if phantoms else float("nan"),
        "stray": float(np.mean(strays)) if strays else float("nan"),
    }
