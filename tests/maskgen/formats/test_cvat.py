"""CVAT: colours, label maps of one channel, XML shapes, and exports that are others."""

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.maskgen.format_base import BadExchange, Masked
from frisket.maskgen.formats.cvat import EXCHANGE, colour_of
from frisket.media.frames import probe

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<image id="0" name="shots/a.jpg" width="60" height="50">
<polygon label="face" points="10.0,20.0;30.0,20.0;30.0,40.0;10.0,40.0" z_order="0"/>
<box label="hair" xtl="0.00" ytl="0.00" xbr="3.00" ybr="2.00"/>
<mask label="hands" rle="1, 2, 4, 1" left="50" top="40" width="4" height="2" z_order="1"/>
<polyline label="face" points="0,0;5,5"/>
</image></annotations>"""


@pytest.fixture
def clips(tmp_path):
    (tmp_path / "clips").mkdir()
    Image.new("RGB", (60, 50)).save(tmp_path / "clips" / "a.jpg")
    return tmp_path / "clips"


def only(source, clips):
    (item,) = EXCHANGE.read(source, clips)
    (frame,) = item.frames
    return {name: plane.numpy() > 0 for name, plane in frame.items()}


def test_colours_are_those_of_pascal_voc():
    assert [colour_of(index) for index in (0, 1, 2, 3, 4, 8, 20, 255)] == [
        *((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (64, 0, 0)),
        *((0, 64, 128), (224, 224, 192)),
    ]


def test_the_folder_is_one_that_cvat_takes(tmp_path, clips):
    face = torch.zeros(50, 60)
    face[5:9] = 1
    item = Masked("a", probe(clips / "a.jpg"), [{"face": face, "hair": torch.ones(50, 60)}])
    list(EXCHANGE.write(tmp_path / "out", [item], {"face": 1.0, "hair": 0.3, "background": 0.0}))
    assert (tmp_path / "out" / "labelmap.txt").read_text().splitlines() == [
        "# label:color_rgb:parts:actions",
        "background:0,0,0::",
        "face:128,0,0::",
        "hair:0,128,0::",
    ]
    assert (tmp_path / "out/ImageSets/Segmentation/default.txt").read_text() == "a\n"
    for kind in ("SegmentationClass", "SegmentationObject"):
        with Image.open(tmp_path / "out" / kind / "a.png") as image:
            assert image.mode == "RGB"
            assert image.getpixel((0, 6)) == (128, 0, 0)
            assert image.getpixel((0, 0)) == (0, 128, 0)


def test_masks_of_one_channel_hold_label_numbers(tmp_path, clips):
    out = tmp_path / "out"
    (out / "SegmentationClass").mkdir(parents=True)
    (out / "labelmap.txt").write_text("background:0,0,0::\nface:9,9,9::\nhair:7,7,7::\n")
    labels = np.zeros((50, 60), np.uint8)
    labels[0], labels[1] = 1, 2
    Image.fromarray(labels).save(out / "SegmentationClass" / "a.png")
    found = only(out, clips)
    assert (found["face"] == (labels == 1)).all()
    assert (found["hair"] == (labels == 2)).all()
    labels[2] = 3
    Image.fromarray(labels).save(out / "SegmentationClass" / "a.png")
    with pytest.raises(BadExchange, match=r"a\.png: holds 3, which labelmap\.txt does not name"):
        only(out, clips)
    Image.new("RGB", (60, 50), (1, 2, 3)).save(out / "SegmentationClass" / "a.png")
    with pytest.raises(BadExchange, match=r"a\.png: holds \(1, 2, 3\), which labelmap\.txt"):
        only(out, clips)


def test_xml_shapes(tmp_path, clips, caplog):
    (tmp_path / "annotations.xml").write_text(XML)
    found = only(tmp_path / "annotations.xml", clips)
    assert found["face"][20:40, 10:30].all()
    assert found["face"].sum() == 400
    assert found["hair"].sum() == 6
    assert np.argwhere(found["hands"]).tolist() == [[40, 51], [40, 52], [41, 53]]
    assert "a polyline ('face') has no area and is left out" in caplog.text
    (tmp_path / "x").mkdir()
    (tmp_path / "annotations.xml").rename(tmp_path / "x" / "annotations.xml")
    assert set(only(tmp_path / "x", clips)) == {"face", "hair", "hands"}


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("1, 2, 4, 1", "1, 2, 4", "a mask 'hands' cannot be read"),
        ("30.0,20.0;", "30.0;", "a polygon 'face' cannot be read"),
        ('xtl="0.00" ', "", "a box 'hair' cannot be read"),
        ("</annotations>", "", "no XML"),
        ("image", "track", "names no image; export the task as"),
    ],
)
def test_broken_xml_is_named(tmp_path, clips, old, new, fault):
    (tmp_path / "annotations.xml").write_text(XML.replace(old, new))
    with pytest.raises(BadExchange, match=rf"annotations\.xml: {fault}"):
        only(tmp_path / "annotations.xml", clips)


def test_other_folders_and_label_maps_are_named(tmp_path, clips):
    with pytest.raises(BadExchange, match=r"holds neither labelmap\.txt nor annotations\.xml"):
        only(clips, clips)
    (tmp_path / "labelmap.txt").write_text("face\n")
    with pytest.raises(BadExchange, match=r"labelmap\.txt:1: 'face' is no label; write name:red"):
        only(tmp_path, clips)
    (tmp_path / "labelmap.txt").write_text("face:1,2,3::\n")
    with pytest.raises(BadExchange, match=r"SegmentationClass: holds no mask"):
        only(tmp_path, clips)
