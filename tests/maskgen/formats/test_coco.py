"""COCO: run lengths as pycocotools packs them, polygons, and files that are none."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from frisket.maskgen.format_base import BadExchange, fill_polygon
from frisket.maskgen.formats.coco import (
    EXCHANGE,
    counts_of,
    decode_counts,
    pack_counts,
    unpack_counts,
)

BITS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40))

# (bits row by row, height, width, counts of pycocotools 2.0.11)
RECORDED = [
    ("10001111111010101100001110111110011", 5, 7, "031N0001020O0N31M11O"),
    ("001101010", 1, 9, "221O000"),
    ("0" * 24, 6, 4, "h0"),
    ("1" * 24, 4, 6, "0h0"),
]
RING = (
    "na0=Z26K4L4M2M4M2N2N2O0O2N2O0O2O0O2O00UOlN0S1OQO0n0OTO0l00TO0l0OVO0j00VO0j00VO0j00VO0j00VO0j0"
    "0VO0j00VO0j01TO0l00TO0l01RO0o01mN0T1k0001N101N101N2N101N2N2N3L3N3L4L5JWY1"
)


@pytest.mark.parametrize(("text", "height", "width", "counts"), RECORDED)
def test_run_lengths_are_those_of_pycocotools(text, height, width, counts):
    bits = np.array([letter == "1" for letter in text]).reshape(height, width)
    assert pack_counts(counts_of(bits)) == counts
    assert (decode_counts(unpack_counts(counts), height, width) == bits).all()


def test_a_ring_packs_as_in_pycocotools():
    y, x = np.mgrid[:90, :70]
    away = np.hypot(y - 40, x - 30)
    assert pack_counts(counts_of((away < 25) & (away >= 8))) == RING


@given(BITS)
def test_any_mask_survives(bits):
    counts = counts_of(bits)
    assert (decode_counts(counts, *bits.shape) == bits).all()
    assert unpack_counts(pack_counts(counts)).tolist() == counts.tolist()


@given(st.lists(st.integers(0, 10_000_000), max_size=20))
def test_any_run_lengths_survive_packing(counts):
    assert unpack_counts(pack_counts(np.array(counts, np.int64))).tolist() == counts


def dataset(tmp_path, segmentation, **picture):
    Image.new("RGB", (60, 50)).save(tmp_path / "a.png")
    whole = {
        "images": [{"id": 7, "file_name": "data/a.jpg", "height": 50, "width": 60, **picture}],
        "categories": [{"id": 3, "name": "face"}],
        "annotations": [{"id": 9, "image_id": 7, "category_id": 3, "segmentation": segmentation}],
    }
    (tmp_path / "any.json").write_text(json.dumps(whole))
    return tmp_path


def only(folder):
    (item,) = EXCHANGE.read(folder, folder)
    (frame,) = item.frames
    return frame["face"].numpy() > 0


def test_plain_run_lengths_are_read_down_the_columns(tmp_path):
    bits = only(dataset(tmp_path, {"size": [50, 60], "counts": [50, 100, 2850]}))
    assert bits[:, 1:3].all()
    assert bits.sum() == 100


def test_polygons_cover_the_pixels_whose_centres_they_hold(tmp_path):
    bits = only(dataset(tmp_path, [[10, 20, 30, 20, 30, 40, 10, 40], [0, 0, 3, 0, 3, 2, 0, 2]]))
    assert bits[20:40, 10:30].all()
    assert bits[:2, :3].all()
    assert bits.sum() == 20 * 20 + 6


def test_a_round_polygon_is_a_disc(tmp_path):
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    points = np.stack([30.3 + 20 * np.cos(turn), 24.8 + 20 * np.sin(turn)], -1)
    bits = only(dataset(tmp_path, [points.ravel().tolist()]))
    y, x = np.mgrid[:50, :60] + 0.5
    exact = np.hypot(x - 30.3, y - 24.8) < 20
    assert (bits & exact).sum() / (bits | exact).sum() >= 0.995


@given(
    arrays.arrays(np.float64, st.tuples(st.integers(3, 8), st.just(2)), elements=st.floats(-9, 30))
)
def test_a_polygon_is_filled_by_the_even_odd_rule(points):
    y, x = np.mgrid[:20, :22] + 0.5
    inside = np.zeros((20, 22), np.bool_)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        if y0 != y1:  # the ray to the left crosses this edge
            inside ^= ((y0 > y) != (y1 > y)) & (x0 + (y - y0) * (x1 - x0) / (y1 - y0) <= x)
    drawn = fill_polygon(points, 20, 22)
    assert (drawn != inside).mean() < 0.01  # a centre on an edge may fall on either side


def test_polygons_that_leave_the_picture_are_cut(tmp_path):
    bits = only(dataset(tmp_path, [[-10, -10, 5, -10, 5, 900, -10, 900], [70, 70, 80, 70, 80, 90]]))
    assert bits[:, :5].all()
    assert not bits[:, 5:].any()


@pytest.mark.parametrize(
    "segmentation",
    [
        {"counts": [3, 4]},
        {"counts": "h0"},
        {"counts": "h"},
        [[1, 2, 3]],
        None,
        {"counts": [-1, 3001]},
        {"counts": [1.5, 2998.5]},
        {"counts": ["3000"]},
        {"counts": [[3000]]},
        {"counts": [2**63 - 1, 2**63 - 1, 3002]},
        {"counts": ""},
        {"counts": "oooooooo0"},  # of these pycocotools 2.0.11 reads memory that is not its own
        {"counts": "\U0001f600"},
        [[0, 0, float("nan"), 1, 1, 1]],
    ],
)
def test_segmentations_that_do_not_fit_are_named(tmp_path, segmentation):
    with pytest.raises(BadExchange, match=r"any\.json: annotation 9 has no segmentation that fits"):
        only(dataset(tmp_path, segmentation))


def test_files_that_are_no_coco_are_named(tmp_path):
    dataset(tmp_path, [])
    (tmp_path / "any.json").write_text('{"images": []}')
    with pytest.raises(BadExchange, match=r"any\.json: no COCO instance annotations"):
        only(tmp_path)
    (tmp_path / "more.json").write_text("{")
    with pytest.raises(BadExchange, match="holds 2 JSON files; name the one"):
        only(tmp_path)
    with pytest.raises(BadExchange, match=r"more\.json: no COCO"):
        list(EXCHANGE.read(tmp_path / "more.json", tmp_path))
