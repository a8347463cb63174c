"""CPU time from a 1536 x 1152 grey PNG to its latent coverage, as `prepare` makes it; a table.

Process CPU time on one thread, medians. What is timed is `data.covering.cover`, which `prepare`
calls once for each clip whose coverage is not in its cache. The target is 7 ms a clip, to a square
latent grid of 128 x 128 cells, which is what the fastest path measured before needs (decode with
OpenCV, crop, one area resize: 6.2 ms, most of it decoding).

    OMP_NUM_THREADS=1 python benchmarks/mask_cost.py [clips]
"""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from frisket.data.mask_pipeline import cover
from frisket.data.records import Masking, Window
from frisket.grid import LatentGrid
from frisket.masks.read import read
from frisket.media.frames import Media
from frisket.media.geometry import Geometry

GRID = LatentGrid(channels=16, spatial=8)
SOURCE = (1152, 1536)
REGIONS = ("subject",)
TARGET_MS = 7.0
CROP, WHOLE = (1024, 1024), (768, 1024)
CASES: dict[str, tuple[tuple[int, int], dict[str, Any]]] = {
    "crop to 1024 x 1024": (CROP, {}),
    "whole, 1024 x 768": (WHOLE, {}),
    "crop, feather 4": (CROP, {"feather": 4.0}),
    "crop, grow 4, feather 4": (CROP, {"grow": 4.0, "feather": 4.0}),
    "crop, reading max": (CROP, {"reading": "max"}),
}


def write_masks(folder: Path, count: int) -> list[Path]:
    """Soft-edged ellipses, as a segmenter with matting leaves them."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: SOURCE[0], : SOURCE[1]]
    paths = []
    for index in range(count):
        x, y, radius = rng.uniform(500, 1000), rng.uniform(400, 700), rng.uniform(150, 400)
        away = np.hypot((columns - x) * 0.8, rows - y)
        plane = np.clip((radius - away) / 8 + 0.5, 0, 1)
        paths.append(folder / f"{index:03}.png")
        cv2.imwrite(str(paths[-1]), (plane * 255).astype(np.uint8))
    return paths


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with tempfile.TemporaryDirectory() as folder:
        paths = write_masks(Path(folder), count)
        print(f"{count} masks of {SOURCE[1]} x {SOURCE[0]}, ms of CPU time a clip, median\n")
        print("| cut and mask options | to coverage | of it reading | bare decoding |")
        print("| --- | --- | --- | --- |")
        for name, (target, options) in CASES.items():
            spent = measure(paths, target, options)
            print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in spent) + " |")
        print(f"\nThe aim is {TARGET_MS:g} ms.")


def measure(
    paths: list[Path], target: tuple[int, int], options: dict[str, Any]
) -> tuple[float, float, float]:
    """Median milliseconds of the whole walk, of reading alone, and of OpenCV's bare decoding."""
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(step: str, work: Callable[[], object]) -> None:
        start = time.process_time()
        work()
        spent[step].append((time.process_time() - start) * 1e3)

    for path in paths:
        window = window_of(path, target, options)
        timed("cover", lambda window=window: cover(window, REGIONS, GRID))
        timed("read", lambda window=window: read_alone(window))
        timed("decode", lambda path=path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    whole, reading, bare = (statistics.median(spent[step]) for step in ("cover", "read", "decode"))
    return whole, reading, bare


def window_of(path: Path, target: tuple[int, int], options: dict[str, Any]) -> Window:
    """A picture's one window with this mask."""
    return Window(
        name=path.stem,
        clip=path,
        content="",
        masks={"": path},
        masks_content={},
        media=Media(path, 1, *SOURCE, None, False, False),
        geometry=Geometry(source=SOURCE, target=target, picks=(0,)),
        masking=Masking("folder", **options),
    )


def read_alone(window: Window) -> dict[str, torch.Tensor]:
    """The plane of one mask file."""
    return read(window.masks, clip=window.media, alpha=False, picks=(0,), regions=REGIONS)


if __name__ == "__main__":
    main()
