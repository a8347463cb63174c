"""CPU time from a 1536 x 1152 grey PNG to its latent coverage, step by step; prints a table.

Process CPU time on one thread, medians. The target is 7 ms a clip, to a square latent grid of
128 x 128 cells, which is what the fastest path measured before needs (decode with OpenCV, crop,
one area resize: 6.2 ms, most of it decoding).

    OMP_NUM_THREADS=1 python benchmarks/mask_cost.py [clips]
"""

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch

from frisket.grid import LatentGrid
from frisket.masks.coverage import cut_to_latent
from frisket.masks.read import read
from frisket.media.frames import Media
from frisket.media.geometry import Geometry

T = TypeVar("T")

GRID = LatentGrid(channels=16, spatial=8)
SOURCE = (1152, 1536)
TARGETS = {"crop to 1024 x 1024": (1024, 1024), "whole, 1024 x 768": (768, 1024)}
TARGET_MS = 7.0


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
        print(f"{count} masks of {SOURCE[1]} x {SOURCE[0]}, ms of CPU time a clip, median")
        for name, target in TARGETS.items():
            spent = measure(paths, target)
            total = spent.pop("total")
            steps = "  ".join(f"{step} {value:.2f}" for step, value in spent.items())
            verdict = "within" if total <= TARGET_MS else "ABOVE"
            print(f"{name:22}{steps}  total {total:.2f}  ({verdict} {TARGET_MS:g})")


def measure(paths: list[Path], target: tuple[int, int]) -> dict[str, float]:
    """Median milliseconds of every step and of the whole walk."""
    spent: dict[str, list[float]] = defaultdict(list)

    def timed(step: str, work: Callable[[], T]) -> T:
        start = time.process_time()
        result = work()
        spent[step].append((time.process_time() - start) * 1e3)
        return result

    def walk(path: Path) -> None:
        clip = Media(path, 1, *SOURCE, None, False, False)
        found = timed("read", lambda: read_one(path, clip))
        geometry = Geometry(source=SOURCE, target=target, picks=(0,))
        timed("cut to cells", lambda: cut_to_latent(found["subject"], geometry, GRID))

    for path in paths:
        timed("total", lambda path=path: walk(path))
        timed("(bare decoding)", lambda path=path: cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    return {step: statistics.median(values) for step, values in spent.items()}


def read_one(path: Path, clip: Media) -> dict[str, torch.Tensor]:
    """The plane of one mask file."""
    return read({"": path}, clip=clip, alpha=False, picks=(0,), regions=("subject",))


if __name__ == "__main__":
    main()
