"""Frisket's fingerprints of pictures and its scene cuts against libraries; see docs/libraries.md.

    pip install imagehash scenedetect-headless
    OMP_NUM_THREADS=1 python benchmarks/library_pictures.py [FILM 30,76]

Neither is a dependency of Frisket. FILM is a video of yours, and the first frames of its shots
but the first.
"""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from library_choices import PHOTOS, cost_of
from measure import table
from PIL import Image

from frisket.inspection.checks.near_duplicates import ALIKE, compute_print
from frisket.maskgen.tracking.temporal import split_shots
from frisket.media.frames import decode


def photo(name: str) -> np.ndarray:
    return np.asarray(Image.open(PHOTOS / "clips" / name).convert("RGB"))


def changes() -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    rng = np.random.default_rng(0)

    def jpeg(quality: int) -> Callable[[np.ndarray], np.ndarray]:
        def save(picture: np.ndarray) -> np.ndarray:
            file = io.BytesIO()
            Image.fromarray(picture).save(file, "JPEG", quality=quality)
            return np.asarray(Image.open(file).convert("RGB"))

        return save

    return {
        "JPEG 50": jpeg(50),
        "JPEG 15": jpeg(15),
        "half the size": lambda p: cv2.resize(
            p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA
        ),
        "darker by 20 %": lambda p: (p * 0.8).astype(np.uint8),
        "noise of 8 levels": lambda p: np.clip(p + rng.normal(0, 8, p.shape), 0, 255).astype(
            np.uint8
        ),
        "2 % cut off": lambda p: np.ascontiguousarray(p[p.shape[0] // 50 :, p.shape[1] // 50 :]),
    }


def twins() -> None:
    """Differing bits of 128: between crops of photographs, and after a change."""
    imagehash = import_module("imagehash")
    rng = np.random.default_rng(0)
    sources = [photo(path.name) for path in sorted((PHOTOS / "clips").glob("*.jpg"))]
    pictures = list(sources)
    for index in range(120):
        source, side = sources[index % 2], int(rng.integers(120, 260))
        y, x = (int(rng.integers(0, size - side)) for size in source.shape[:2])
        pictures.append(np.ascontiguousarray(source[y : y + side, x : x + side]))

    def library(picture: np.ndarray) -> int:
        image = Image.fromarray(picture)
        hashes = [imagehash.dhash(image).hash.ravel(), imagehash.phash(image).hash.ravel()]
        return int.from_bytes(np.packbits(np.concatenate(hashes)).tobytes(), "big")

    rows = []
    for name, read in {"ours": lambda p: compute_print(p).bits, "imagehash": library}.items():
        bits = [read(picture) for picture in pictures]
        apart = [(a ^ b).bit_count() for a, b in combinations(bits, 2)]
        alike = sum(distance <= ALIKE for distance in apart) / len(apart)
        cells = [f"{np.median(apart):.0f}; {alike:.2%} within {ALIKE}"]
        for change in changes().values():
            moved = [
                (own ^ read(change(picture))).bit_count()
                for own, picture in zip(bits, pictures, strict=True)
            ]
            cells.append(f"{np.median(moved):.0f}, {max(moved)}")
        rows.append(
            [name, *cells, f"{cost_of(lambda read=read: [read(p) for p in sources]) / 2:.2f}"]
        )
    table(["median, most", "others", *changes(), "ms a photo"], rows)


def pan(picture: np.ndarray, count: int, speed: int = 3) -> list[np.ndarray]:
    large = cv2.resize(picture, (720, 540), interpolation=cv2.INTER_AREA)
    lefts = [min(speed * k, 240) for k in range(count)]
    return [np.ascontiguousarray(large[20:380, left : left + 480]) for left in lefts]


def clips() -> Iterator[tuple[str, list[np.ndarray], set[int]]]:
    rng = np.random.default_rng(0)
    first, second = (photo(path.name) for path in sorted((PHOTOS / "clips").glob("*.jpg")))
    pans = pan(first, 20) + pan(second, 20)
    yield "two pans", pans, {20}
    noise = [np.clip(it + rng.normal(0, 12, it.shape), 0, 255).astype(np.uint8) for it in pans]
    yield "with noise of 12 levels", noise, {20}
    yield "a pan of 20 pixels a frame", pan(first, 12, 20), set()
    yield (
        "light of +-20 %",
        [
            np.clip(it * (0.8 + 0.4 * (k % 2)), 0, 255).astype(np.uint8)
            for k, it in enumerate(pan(first, 20))
        ],
        set(),
    )
    yield (
        "fade to black",
        [(it * (1 - k / 23)).astype(np.uint8) for k, it in enumerate(pan(first, 24))],
        set(),
    )
    flash = pan(first, 20)
    flash[10] = np.full_like(flash[10], 255)
    yield "a flash of one frame", flash, {10, 11}
    still = pan(first, 20)
    yield "mirrored", still[:10] + [np.ascontiguousarray(it[:, ::-1]) for it in still[10:]], {10}
    near = [cv2.resize(it[80:260, 120:360], (480, 360)) for it in still[10:]]
    yield "a close-up of the same", still[:10] + near, {10}


def cuts(video: str = "", at: str = "") -> None:
    """Cuts found that are there, found that are none, and missed."""
    library, detectors = import_module("scenedetect"), import_module("scenedetect.detectors")

    def ours(frames: Sequence[np.ndarray]) -> set[int]:
        numbers = [number for number, _ in split_shots(torch.from_numpy(it) for it in frames)]
        return {k for k in range(1, len(numbers)) if numbers[k] != numbers[k - 1]}

    def by(kind: Any) -> Callable[[Sequence[np.ndarray]], set[int]]:
        def detect(frames: Sequence[np.ndarray]) -> set[int]:
            detector, found = kind(min_scene_len=1), []
            for k, frame in enumerate(frames):
                turned = np.ascontiguousarray(frame[:, :, ::-1])
                found += detector.process_frame(library.FrameTimecode(k, 25.0), turned)
            found += detector.post_process(library.FrameTimecode(len(frames) - 1, 25.0))
            return {code.frame_num for code in found} - {0}

        return detect

    kinds = (detectors.ContentDetector, detectors.AdaptiveDetector, detectors.HistogramDetector)
    ways = {"ours": ours, **{kind.__name__: by(kind) for kind in kinds}}
    films = list(clips())
    if video:
        true = {int(number) for number in at.split(",") if number}
        films.append((Path(video).name, list(decode(Path(video)).numpy()), true))
    rows = []
    for name, frames, true in films:
        found = [way(frames) for way in ways.values()]
        rows.append(
            [name, *(f"{len(it & true)}, {len(it - true)}, {len(true - it)}" for it in found)]
        )
    sample = films[0][1]
    costs = [cost_of(lambda way=way: way(sample), 3) / len(sample) for way in ways.values()]
    rows.append(["ms a frame, 480 x 360", *(f"{cost:.2f}" for cost in costs)])
    table(["right, wrong, missed", *ways], rows)


def main() -> None:
    cv2.setNumThreads(1)
    twins()
    print()
    cuts(*sys.argv[1:])


if __name__ == "__main__":
    main()
