"""LabelMe: every kind of shape with an area, holes, and files that are none."""

import json
import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from frisket.maskgen.format_base import BadExchange, Masked
from frisket.maskgen.formats.labelme import EXCHANGE, part_of, shapes_of
from frisket.media.frames import probe

BITS = arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=24))


def shape(kind, points, label="face", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def folder_of(tmp_path, *shapes, **more):
    Image.new("RGB", (60, 50)).save(tmp_path / "a.b.png")
    told = {"version": "5.0.1", "shapes": shapes, "imageHeight": 50, "imageWidth": 60, **more}
    (tmp_path / "a.b.json").write_text(json.dumps(told))
    return tmp_path


def only(folder):
    (item,) = EXCHANGE.read(folder, folder)
    (frame,) = item.frames
    return {name: plane.numpy() > 0 for name, plane in frame.items()}


@given(BITS)
def test_any_mask_survives(bits):
    drawn = np.zeros_like(bits)
    for each in shapes_of("face", bits) if bits.any() else ():
        part = part_of(Path("a.json"), json.loads(json.dumps(each)), *bits.shape)
        assert part is not None
        drawn |= part[1]
    assert (drawn == bits).all()


@given(st.integers(0, 1000))
def test_blobs_are_polygons_that_labelme_draws_alike(seed):
    noise = np.random.default_rng(seed).standard_normal((64, 64)).astype(np.float32)
    bits = cv2.GaussianBlur(noise, (0, 0), 8) > 0
    again = Image.new("1", (64, 64))
    for each in shapes_of("face", bits):
        if each["shape_type"] == "mask":
            return
        points = [tuple(point) for point in each["points"]]
        ImageDraw.Draw(again).polygon(points, outline=1, fill=1)  # as labelme fills them
    drawn = np.asarray(again)
    assert (drawn & bits).sum() / (drawn | bits).sum() >= 0.98


def test_rectangles_circles_and_bitmaps(tmp_path):
    corner = np.zeros((3, 4), np.bool_)
    corner[1, 2] = True
    path = tmp_path / "bits.png"
    Image.fromarray(corner).save(path)
    import base64

    bitmap = base64.b64encode(path.read_bytes()).decode()
    path.unlink()
    found = only(
        folder_of(
            tmp_path,
            shape("rectangle", [[30.2, 9.8], [20.1, 4.9]]),
            shape("circle", [[30, 30], [30, 40]], "hair"),
            shape("mask", [[50, 40], [53, 42]], "hands", mask=bitmap),
            shape("polygon", [[0, 0], [3, 0], [3, 3], [0, 3]]),
        )
    )
    assert found["face"][5:11, 20:31].all()
    assert found["face"].sum() == 6 * 11 + 16
    y, x = np.mgrid[:50, :60]
    assert (found["hair"] == (np.hypot(x - 30, y - 30) <= 10)).all()
    assert np.argwhere(found["hands"]).tolist() == [[41, 52]]


def test_lines_are_left_out_aloud(tmp_path, caplog):
    folder = folder_of(
        tmp_path, shape("line", [[0, 0], [9, 9]]), shape(None, [[0, 0], [9, 0], [9, 9]])
    )
    with caplog.at_level(logging.WARNING):
        assert set(only(folder)) == {"face"}
    assert "a.b.json: a line ('face') has no area and is left out" in caplog.text


def test_the_picture_is_named_from_where_the_file_lies(tmp_path):
    folder_of(tmp_path)
    (tmp_path / "a.b.json").unlink()
    item = Masked("sub/a.b", probe(tmp_path / "a.b.png"), [{"face": torch.ones(50, 60)}])
    (path,) = EXCHANGE.write(tmp_path / "out", [item], {})
    told = json.loads(path.read_text())
    assert told["imagePath"] == "../../a.b.png"
    assert (path.parent / told["imagePath"]).is_file()


@pytest.mark.parametrize(
    "bad",
    [
        shape("polygon", [[0]]),
        shape("circle", [[1, 1]]),
        shape("mask", [[0, 0], [1, 1]], mask="!"),
        shape("mask", [[0, 0], [1, 1]], mask=None),
        shape("rectangle", []),
        {"label": "face"},
    ],
)
def test_shapes_that_cannot_be_read_are_named(tmp_path, bad):
    with pytest.raises(BadExchange, match=r"a\.b\.json: its .* 'face' cannot be read"):
        only(folder_of(tmp_path, bad))


def test_files_that_are_none_are_named(tmp_path):
    folder = folder_of(tmp_path)
    (tmp_path / "a.b.json").write_text("{")
    with pytest.raises(BadExchange, match=r"a\.b\.json: not JSON"):
        only(folder)
    (tmp_path / "a.b.json").write_text("{}")
    with pytest.raises(BadExchange, match="holds no LabelMe file"):
        only(folder)
