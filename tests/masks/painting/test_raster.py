"""The laws of the rasteriser, and that it stands where it was recorded for the page."""

import base64
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.masks.painting.raster import GRID, PixelRun, capsule, disc_spans, polygon_spans, snap
from frisket.masks.painting.strokes import apply, read_edit

CASES = json.loads((Path(__file__).parent / "strokes.json").read_text(encoding="utf-8"))
WIDTH, HEIGHT = 40, 32
PLACES = st.integers(-10 * GRID, 50 * GRID).map(lambda number: number / GRID)
RADII = st.integers(1, 16 * GRID).map(lambda number: number / GRID)
DISCS = st.tuples(PLACES, PLACES, RADII)
POLYGONS = st.lists(st.tuples(PLACES, PLACES), min_size=3, max_size=8)


def fill(spans: list[PixelRun], width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    pixels = np.zeros((height, width), np.int32)
    for y, start, stop in spans:
        assert 0 <= y < height
        assert 0 <= start < stop <= width
        pixels[y, start:stop] += 1
    assert pixels.max(initial=0) <= 1, "no pixel is in two runs of one shape"
    return pixels.astype(bool)


def test_it_is_as_recorded_for_the_page() -> None:
    for case in CASES["discs"]:
        spans = disc_spans(*case["disc"], *case["size"])
        assert [value for span in spans for value in span] == case["spans"]
    for case in CASES["capsules"]:
        spans = capsule(tuple(case["begin"]), tuple(case["end"]), *case["size"])
        assert [value for span in spans for value in span] == case["spans"]
    for case in CASES["polygons"]:
        corners = list(zip(case["points"][::2], case["points"][1::2], strict=True))
        spans = polygon_spans(corners, case["rule"], *case["size"])
        assert [value for span in spans for value in span] == case["spans"]


def test_documents_are_as_recorded_for_the_page() -> None:
    for case in CASES["documents"]:
        width, height = case["size"]
        ids = np.zeros((height, width), np.uint8)
        for edit in case["edits"]:
            apply(read_edit(edit, ids.size), ids)
        assert ids.tobytes() == zlib.decompress(base64.b64decode(case["ids"]))


@given(DISCS)
@settings(derandomize=True, deadline=None)
def test_a_disc_holds_the_centres_within_its_radius(disc: tuple[float, float, float]) -> None:
    x, y, radius = disc
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected = (columns - x) ** 2 + (rows - y) ** 2 <= radius * radius
    if 0 <= x < WIDTH and 0 <= y < HEIGHT:
        expected[math.floor(y), math.floor(x)] = True
    found = fill(disc_spans(x, y, radius, WIDTH, HEIGHT))
    border = np.abs((columns - x) ** 2 + (rows - y) ** 2 - radius * radius) < 1e-9
    assert np.array_equal(found | border, expected | border)


@given(DISCS, DISCS)
@settings(derandomize=True, deadline=None)
def test_a_piece_of_a_stroke_holds_both_ends_and_is_the_same_backwards(
    begin: tuple[float, float, float], end: tuple[float, float, float]
) -> None:
    pixels = fill(capsule(begin, end, WIDTH, HEIGHT))
    for disc in (begin, end):
        assert not (fill(disc_spans(*disc, WIDTH, HEIGHT)) & ~pixels).any()
    backwards = fill(capsule(end, begin, WIDTH, HEIGHT))
    assert (pixels != backwards).sum() <= 2  # sums of doubles, on the border itself


@given(DISCS, DISCS)
@settings(derandomize=True, deadline=None)
def test_a_piece_of_a_stroke_holds_every_disc_between(
    begin: tuple[float, float, float], end: tuple[float, float, float]
) -> None:
    pixels = fill(capsule(begin, end, WIDTH, HEIGHT))
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for share in (0.25, 0.5, 0.75):
        x, y, radius = (one + share * (other - one) for one, other in zip(begin, end, strict=True))
        inside = (columns - x) ** 2 + (rows - y) ** 2 <= (radius - 1e-6) ** 2
        assert not (inside & ~pixels).any()


@given(POLYGONS, st.sampled_from(["evenodd", "nonzero"]))
@settings(derandomize=True, deadline=None)
def test_a_polygon_is_the_same_whichever_way_round(points: list[tuple[float, float]], rule) -> None:
    pixels = fill(polygon_spans(points, rule, WIDTH, HEIGHT))
    assert np.array_equal(pixels, fill(polygon_spans(points[::-1], rule, WIDTH, HEIGHT)))
    turned = points[2:] + points[:2]
    assert np.array_equal(pixels, fill(polygon_spans(turned, rule, WIDTH, HEIGHT)))


@given(st.tuples(PLACES, PLACES), st.tuples(PLACES, PLACES))
@settings(derandomize=True, deadline=None)
def test_polygons_that_share_an_edge_leave_no_gap_and_share_no_pixel(
    one: tuple[float, float], other: tuple[float, float]
) -> None:
    corners = [(-12.0, -12.0), (60.0, -12.0), (60.0, 60.0), (-12.0, 60.0)]
    whole = [corners[0], one, other, corners[2]]
    left = fill(polygon_spans([*whole, corners[3]], "evenodd", WIDTH, HEIGHT))
    right = fill(polygon_spans([*whole, corners[1]], "evenodd", WIDTH, HEIGHT))
    assert (left ^ right).all()


def test_points_lie_on_a_grid() -> None:
    assert [snap(value) for value in (0.031, 0.032, -0.031, 1e12)] == [0.0, 0.0625, 0.0, 1 << 20]
    with pytest.raises(ValueError, match="no number"):
        snap(math.nan)
