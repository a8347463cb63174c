"""Draws docs/images/routing.png: a picture, its mask, and the tokens that two routed steps carry.

    python scripts/routing_picture.py

A subject of the pocket world, 16 x 16 tokens, the defaults of [routing] but for `multiple` (8, as
there are few tokens). What passes by is faded.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from frisket.config.tree import Routing
from frisket.pocket.world import draw, random_creature
from frisket.routing.selection import BackgroundSelection

DRAWING = Path(__file__).resolve().parents[1] / "docs" / "images" / "routing.png"
SIZE, TOKENS, GAP = 256, 16, 12  # pixels, tokens a side, pixels between the pictures
BACKGROUND, MULTIPLE, FADED = 0.25, 8, 0.15


def main() -> None:
    """Draw it."""
    scene = random_creature(np.random.RandomState(4))
    picture, planes = draw(scene, SIZE)
    mask = torch.from_numpy(np.clip(sum(planes.values()), 0, 1)).float()
    side = SIZE // TOKENS
    weights = mask[None, None, None]
    options = Routing(background=BACKGROUND, multiple=MULTIPLE)
    select = BackgroundSelection(
        background=options.background, dilate=options.dilate, multiple=options.multiple
    )
    panels = [picture, np.repeat(mask.numpy()[..., None] * 255, 3, 2)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        selection = select(weights, (1, side, side), generator)
        assert selection is not None
        panels.append(_fade(picture, selection.kept[0, 0, 0].numpy()[..., None]))
    gap = np.full((SIZE, GAP, 3), 255.0)
    strips = [strip for panel in panels for strip in (gap, panel)][1:]
    Image.fromarray(np.concatenate(strips, 1).round().astype(np.uint8)).save(DRAWING, optimize=True)


def _fade(picture: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Towards white where nothing was kept."""
    share = FADED + (1 - FADED) * kept
    return picture * share + 255 * (1 - share)


if __name__ == "__main__":
    main()
