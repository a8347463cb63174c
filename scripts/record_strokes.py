"""Records what strokes, fills and region tools come to: pytest and vitest hold both twins to it.

python scripts/record_strokes.py > tests/masks/painting/strokes.json
"""

import base64
import json
import random
import sys
import zlib
from itertools import chain
from typing import Any

import numpy as np
import torch

from frisket.masks.morphology import feather, fill_holes, grow
from frisket.masks.painting import raster, strokes


def draw_number(source: random.Random, low: float, high: float) -> float:
    return raster.snap(source.uniform(low, high))


def list_discs(source: random.Random) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for _ in range(60):
        width, height = source.randint(1, 40), source.randint(1, 40)
        disc = [
            draw_number(source, -8, 48),
            draw_number(source, -8, 48),
            draw_number(source, 0, 20),
        ]
        spans = raster.disc_spans(*disc, width, height)
        cases.append({"disc": disc, "size": [width, height], "spans": flatten(spans)})
    return cases


def list_capsules(source: random.Random) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for number in range(120):
        width, height = source.randint(1, 64), source.randint(1, 64)
        begin, end = (
            [draw_number(source, -10, 70) for _ in range(2)] + [draw_number(source, 0.05, 16)]
            for _ in range(2)
        )
        if number % 3 == 0:
            end[2] = begin[2]
        if number % 7 == 0:
            end[1] = begin[1]
        spans = raster.capsule(tuple(begin), tuple(end), width, height)  # type: ignore[arg-type]
        cases.append({"begin": begin, "end": end, "size": [width, height], "spans": flatten(spans)})
    return cases


def list_polygons(source: random.Random) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for number in range(60):
        width, height = source.randint(1, 64), source.randint(1, 64)
        count = source.randint(2, 12)
        points = [(draw_number(source, -8, 70), draw_number(source, -8, 70)) for _ in range(count)]
        if number % 4 == 0:
            points = [(float(round(x)), round(y) + 0.5) for x, y in points]
        for rule in ("evenodd", "nonzero"):
            spans = raster.polygon_spans(points, rule, width, height)  # type: ignore[arg-type]
            flat = [value for point in points for value in point]
            cases.append(
                {"points": flat, "rule": rule, "size": [width, height], "spans": flatten(spans)}
            )
    return cases


def flatten(spans: list[raster.Span]) -> list[int]:
    return [value for span in spans for value in span]


def draw_edit(source: random.Random, width: int, height: int) -> dict[str, Any]:
    shared = {
        "id": source.randint(0, 4),
        "locked": source.sample(range(5), source.choice([0, 0, 1, 2])),
        "only": source.choice([None, None, None, 1]),
    }
    kind = source.choice(["stroke", "stroke", "polygon", "fill"])
    if kind == "fill":
        spot = {"x": source.randrange(width), "y": source.randrange(height)}
        return {"op": "fill", **spot, "contiguous": source.random() < 0.7, **shared}
    count = source.randint(1, 9)
    places = [
        [draw_number(source, -5, width + 5), draw_number(source, -5, height + 5)]
        for _ in range(count)
    ]
    if kind == "polygon":
        rule = source.choice(["evenodd", "nonzero"])
        return {"op": "polygon", "points": list(chain(*places)), "rule": rule, **shared}
    dabs = [[*place, draw_number(source, 0.1, 18)] for place in places]
    return {"op": "stroke", "points": list(chain(*dabs)), **shared}


def list_documents(source: random.Random) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = []
    for _ in range(12):
        width, height = source.randint(100, 300), source.randint(100, 300)
        ids = np.zeros((height, width), np.uint8)
        edits = [draw_edit(source, width, height) for _ in range(12)]
        for edit in edits:
            strokes.apply(strokes.read_edit(edit, ids.size), ids)
        cases.append({"size": [width, height], "edits": edits, "ids": pack(ids)})
    return cases


def list_regions(source: random.Random) -> list[dict[str, Any]]:
    """Blobs, and what the trainer's own functions make of them."""
    cases: list[dict[str, Any]] = []
    for number in range(6):
        width, height = source.randint(30, 70), source.randint(30, 70)
        ids = np.zeros((height, width), np.uint8)
        for _ in range(4):
            spot = [draw_number(source, 0, width), draw_number(source, 0, height)]
            spans = raster.disc_spans(*spot, draw_number(source, 4, 16), width, height)
            hole = raster.disc_spans(*spot, draw_number(source, 1, 4), width, height)
            for value, runs in ((1, spans), (0, hole)):
                for y, start, stop in runs:
                    ids[y, start:stop] = value
        plane = torch.from_numpy(ids.astype(np.float32))[None]
        pixels = [1, 2, 3, 5, -1, -4][number]
        soft = [0.5, 1, 2, 4, 6.5, 9][number]
        cases.append(
            {
                "size": [width, height],
                "ids": pack(ids),
                "pixels": pixels,
                "grown": pack(to_bytes(grow(plane, float(pixels)))),
                "filled": pack(to_bytes(fill_holes(plane))),
                "feather": soft,
                "feathered": pack(to_levels(feather(plane, float(soft)))),
            }
        )
    return cases


def to_bytes(plane: torch.Tensor) -> np.ndarray:
    return plane[0].numpy().astype(np.uint8)


def to_levels(plane: torch.Tensor) -> np.ndarray:
    return (plane[0] * 255).round().numpy().astype(np.uint8)


def pack(ids: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(ids.tobytes(), 9)).decode()


def main() -> None:
    source = random.Random(14)
    cases = {
        "discs": list_discs(source),
        "capsules": list_capsules(source),
        "polygons": list_polygons(source),
        "documents": list_documents(source),
        "regions": list_regions(source),
    }
    json.dump(cases, sys.stdout, separators=(",", ":"))


if __name__ == "__main__":
    main()
