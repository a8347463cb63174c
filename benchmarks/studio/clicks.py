"""Clicks and boxes without a model, on the two example photographs: IoU with their hand-made masks.

One click in the middle of each region, and the region's own exact box. Of the proposals the page
shows the first; the best is what Tab finds.

    python benchmarks/studio/clicks.py
"""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frisket.maskgen.base import Box
from frisket.maskgen.draft.click import cut_click
from frisket.media.frames import decode

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
LEVELS = {"face": 255, "body": 128}
CLICKS = {
    ("astronaut", "face"): (230.0, 130.0),
    ("astronaut", "body"): (250.0, 400.0),
    ("grace-hopper", "face"): (270.0, 200.0),
    ("grace-hopper", "body"): (150.0, 500.0),
}


def measure(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


def main() -> None:
    print(
        "| photo | region | asked by | first | best | of | CPU s |\n|---|---|---|---|---|---|---|"
    )
    for (name, region), (x, y) in CLICKS.items():
        picture = decode(PHOTOS / "clips" / f"{name}.jpg")[0]
        truth = np.asarray(Image.open(PHOTOS / "masks" / f"{name}.png")) == LEVELS[region]
        rows, columns = np.nonzero(truth)
        box = Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        for way, points, given in (("click", [(x, y, True)], None), ("box", [], box)):
            begin = time.process_time()
            segments = cut_click(picture, points, given)
            spent = time.process_time() - begin
            found = [measure(segment.mask.numpy() > 0.5, truth) for segment in segments]
            print(
                f"| {name} | {region} | {way} | {found[0]:.2f} | {max(found):.2f} |"
                f" {len(found)} | {spent:.1f} |"
            )


if __name__ == "__main__":
    main()
