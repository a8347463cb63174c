"""CPU time from a 1536 x 1152 grey PNG to its latent coverage, as `prepare` makes it; a table.

Process CPU time on one thread, medians. Timed is `data.mask_pipeline.cover`, which `prepare`
calls once for each clip whose coverage is not in its cache. Where nothing is done to the pixels of
a mask it is laid on the cells at once (`masks.cut`); beside it stands the same by way of every
pixel of the target, as masks that are grown or feathered go, for a picture and for a video.

The target is 7 ms a clip, to a square latent grid of 128 x 128 cells, which is what the fastest
path measured before needs (decode with OpenCV, crop, one area resize: 6.2 ms, most of it decoding).

    OMP_NUM_THREADS=1 python benchmarks/mask_cost.py [clips]
"""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from frisket.data.mask_pipeline import cover, lay
from frisket.data.records import Masking, Window
from frisket.grid import LatentGrid
from frisket.masks.coverage import to_latent
from frisket.masks.read import read
from frisket.media.frames import Media
from frisket.media.geometry import Geometry

GRID = LatentGrid(channels=16, spatial=8)
SOURCE = (1152, 1536)
VIDEO = (720, 1280)
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
            spent = measure(steps_of(window_of(path, target, options)) for path in paths)
            row = (f"{spent[step]:.2f}" for step in ("cover", "read", "decode"))
            print(f"| {name} | {' | '.join(row)} |")
        print(f"\nThe aim is {TARGET_MS:g} ms.\n")
        print("| laid on the cells, reading left out | at once | by way of every pixel |")
        print("| --- | --- | --- |")
        video = Geometry(source=VIDEO, target=(480, 832), picks=tuple(range(21)))
        for name, geometry, grid in (
            ("crop to 1024 x 1024", window_of(paths[0], CROP, {}).geometry, GRID),
            ("whole, 1024 x 768", window_of(paths[0], WHOLE, {}).geometry, GRID),
            ("21 frames, 1280 x 720 to 832 x 480", video, LatentGrid(16, 8, 4)),
        ):
            plane = torch.rand(len(geometry.picks), *geometry.source)
            spent = measure([ways_of(plane, geometry, grid)] * count)
            print(f"| {name} | {spent['at once']:.2f} | {spent['pixels']:.2f} |")


def measure(clips: Iterable[Mapping[str, Callable[[], object]]]) -> dict[str, float]:
    """Median milliseconds of each step over clips."""
    spent: dict[str, list[float]] = defaultdict(list)
    for steps in clips:
        for name, work in steps.items():
            start = time.process_time()
            work()
            spent[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in spent.items()}


def steps_of(window: Window) -> dict[str, Callable[[], object]]:
    """The whole walk of one mask, reading alone, and OpenCV's bare decoding."""
    return {
        "cover": lambda: cover(window, REGIONS, GRID),
        "read": lambda: read_alone(window),
        "decode": lambda: cv2.imread(str(window.clip), cv2.IMREAD_UNCHANGED),
    }


def ways_of(
    plane: torch.Tensor, geometry: Geometry, grid: LatentGrid
) -> dict[str, Callable[[], object]]:
    """A plane to coverage as `prepare` lays it, and with the target's pixels made in between."""
    window = window_of(Path("mask.png"), geometry.target, {})
    window = replace(window, geometry=geometry)
    return {
        "at once": lambda: lay({"subject": plane}, window, grid),
        "pixels": lambda: to_latent(geometry.plane(plane)[None], grid),
    }


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
