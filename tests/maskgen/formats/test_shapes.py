"""Attributes of other tools' shapes (rotation, radii, boxes alone) and names as they write them."""

import json
import logging
import unicodedata

import cv2
import numpy as np
import pytest
from PIL import Image

from frisket.maskgen.format_base import BadExchange, fill_polygon
from frisket.maskgen.formats import coco, cvat, labelme

WIDE, HIGH = 96, 64
# Corners of the box 28..68 x 27..37 as cvat-ai/cvat@03501ddb turns it (transformations.py,
# RotatedBoxesToPolygons, run as it stands).
TURNED = {
    90: [(53.0, 12.0), (53.0, 52.0), (43.0, 52.0), (43.0, 12.0)],
    30: [(33.179, 17.67), (67.821, 37.67), (62.821, 46.33), (28.179, 26.33)],
    -45: [(30.322, 42.607), (58.607, 14.322), (65.678, 21.393), (37.393, 49.678)],
    200: [(65.084, 43.539), (27.496, 29.858), (30.916, 20.461), (68.504, 34.142)],
}
BOX = '<box label="face" xtl="28" ytl="27" xbr="68" ybr="37" rotation="{}"/>'


def clips_of(tmp_path, *names):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in names:
        Image.new("RGB", (WIDE, HIGH)).save(folder / name)
    return folder


def read(tool, source, clips):
    found = {}
    for item in tool.EXCHANGE.read(source, clips):
        (frame,) = item.frames
        found[item.name] = {name: plane.numpy() > 0 for name, plane in frame.items()}
    return found


def from_cvat(tmp_path, *shapes, name="a.png"):
    clips = clips_of(tmp_path, "a.png")
    image = f'<image id="0" name="{name}" width="{WIDE}" height="{HIGH}">{"".join(shapes)}</image>'
    (tmp_path / "a.xml").write_text(f"<annotations>{image}</annotations>", encoding="utf-8")
    return read(cvat, tmp_path / "a.xml", clips)["a"]


@pytest.mark.parametrize("degrees", TURNED)
def test_rotated_boxes_are_where_cvat_has_them(tmp_path, degrees):
    face = from_cvat(tmp_path, BOX.format(degrees))["face"]
    wanted = fill_polygon(np.array(TURNED[degrees]), HIGH, WIDE)
    assert (face != wanted).sum() <= 2


@pytest.mark.parametrize("degrees", [0, 30, 90, -45])
def test_ellipses_are_where_cvat_has_them(tmp_path, degrees):
    told = f'<ellipse label="face" cx="48" cy="32" rx="30" ry="12" rotation="{degrees}"/>'
    face = from_cvat(tmp_path, told)["face"]
    # CVAT fills them so (EllipsesToMasks, same file), in whole pixels.
    theirs = np.zeros((HIGH, WIDE), np.uint8)
    cv2.ellipse(theirs, (48, 32), (30, 12), degrees, 0, 360, 1, thickness=-1)
    assert (face & (theirs > 0)).sum() / (face | (theirs > 0)).sum() > 0.92
    assert face.sum() == pytest.approx(np.pi * 30 * 12, rel=0.01)


def test_cuboids_are_their_outline_and_tags_are_of_no_place(tmp_path, caplog):
    front = 'xtl1="10" ytl1="20" xbl1="10" ybl1="40" xtr1="30" ytr1="20" xbr1="30" ybr1="40"'
    back = 'xtl2="40" ytl2="16" xbl2="40" ybl2="36" xtr2="20" ytr2="16" xbr2="20" ybr2="36"'
    shapes = (f'<cuboid label="face" {front} {back}/>', '<tag label="outdoors"/>')
    with caplog.at_level(logging.WARNING):
        found = from_cvat(tmp_path, *shapes, '<skeleton label="body"/>')
    assert set(found) == {"face"}
    assert 20 * 20 < found["face"].sum() < 30 * 24
    assert "skeleton ('body') has no area" in caplog.text
    assert "outdoors" not in caplog.text


@pytest.mark.parametrize("bad", ['rotation="nan"', 'rotation="much"'])
def test_rotations_that_are_none_are_refused(tmp_path, bad):
    told = BOX.format(0).replace('rotation="0"', bad)
    with pytest.raises(BadExchange, match="a box 'face' cannot be read"):
        from_cvat(tmp_path, told)


def test_names_in_nfd_and_with_a_prefix_of_label_studio(tmp_path):
    clips = clips_of(tmp_path, "café.png", "b.png")
    names = [unicodedata.normalize("NFD", "café.png"), "upload/3/3f2e81aa-b.png"]
    images = "".join(
        f'<image id="{at}" name="{name}" width="{WIDE}" height="{HIGH}">{BOX.format(0)}</image>'
        for at, name in enumerate(names)
    )
    (tmp_path / "a.xml").write_text(f"<annotations>{images}</annotations>", encoding="utf-8")
    assert set(read(cvat, tmp_path / "a.xml", clips)) == {"café", "b"}
    twice = images + images.replace("3f2e81aa-", "77777777-").replace("cafe", "x")
    (tmp_path / "a.xml").write_text(f"<annotations>{twice}</annotations>", encoding="utf-8")
    with pytest.raises(BadExchange, match="both mean the clip 'b'; keep one"):
        read(cvat, tmp_path / "a.xml", clips)


def from_coco(tmp_path, *annotations, **picture):
    clips = clips_of(tmp_path, "a.png")
    told = {
        "images": [{"id": 1, "file_name": "a.png", "width": WIDE, "height": HIGH, **picture}],
        "categories": [{"id": 0, "name": "face"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 0, **one} for one in annotations],
    }
    (tmp_path / "a.json").write_text("\ufeff" + json.dumps(told), encoding="utf-8")
    return read(coco, tmp_path / "a.json", clips)["a"]["face"]


def test_coco_boxes_alone_are_masks_and_said_so(tmp_path, caplog):
    box = {"bbox": [28, 27, 40, 10], "segmentation": []}
    face = from_coco(tmp_path, box, {"bbox": [0, 0, 2, 3]})
    assert face.sum() == 40 * 10 + 6
    assert "2 annotations have a box and no outline" in caplog.text


def test_coco_boxes_that_cvat_turned(tmp_path):
    face = from_coco(tmp_path, {"bbox": [28, 27, 40, 10], "attributes": {"rotation": 30}})
    assert (face != fill_polygon(np.array(TURNED[30]), HIGH, WIDE)).sum() <= 2


def test_coco_run_lengths_of_the_transposed_size_are_refused(tmp_path):
    swapped = {"size": [WIDE, HIGH], "counts": [0, WIDE * HIGH]}
    with pytest.raises(BadExchange, match=r"run lengths are for \[96, 64\]"):
        from_coco(tmp_path, {"segmentation": swapped, "iscrowd": 1})


def test_annotations_of_a_photo_that_the_tool_did_not_turn_say_so(tmp_path):
    clips = clips_of(tmp_path)
    tags = Image.Exif()
    tags[274] = 6
    Image.new("RGB", (WIDE, HIGH)).save(clips / "a.jpg", exif=tags)
    image = f'<image id="0" name="a.jpg" width="{WIDE}" height="{HIGH}">{BOX.format(0)}</image>'
    (tmp_path / "a.xml").write_text(f"<annotations>{image}</annotations>")
    with pytest.raises(BadExchange, match=r"EXIF orientation \(6\) turns it"):
        read(cvat, tmp_path / "a.xml", clips)


@pytest.mark.parametrize("kind", ["rotation", "rectangle", "polygon", "oriented_rectangle"])
def test_turned_rectangles_of_labelme_and_its_kin(tmp_path, kind):
    told = {"label": "face", "points": TURNED[30], "shape_type": kind}
    _, face = labelme.part_of(tmp_path, told, HIGH, WIDE)
    wanted = fill_polygon(np.array(TURNED[30]), HIGH, WIDE)
    assert (face & wanted).sum() / (face | wanted).sum() > 0.85
