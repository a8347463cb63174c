"""Damaged annotations of other tools, legends and records: read, or refused in a sentence."""

import contextlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.fuzz.mutate import damage, damage_value, tried
from tests.fuzz.mutate_text import brief, json_of

from frisket.maskgen.files import record, store
from frisket.maskgen.format_base import EXCHANGES, Masked
from frisket.media.frames import probe

QUICK = 60
MANY = pytest.mark.slow
BOTH = [range(QUICK), pytest.param(range(QUICK, 1000), marks=MANY)]
SIZE = (24, 32)
XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<image id="0" name="a.png" width="32" height="24">
<polygon label="face" points="1.5,2.0;20.0,3.0;10.25,18.0" z_order="0"></polygon>
<box label="hair" xtl="1.0" ytl="2.0" xbr="9.0" ybr="8.5"></box>
<mask label="hands" rle="3, 4, 5" left="2" top="3" width="4" height="3"></mask>
<points label="eye" points="1,2"></points>
</image></annotations>
"""
LABELME: dict[str, Any] = {
    "version": "5.5.0",
    "imageHeight": 24,
    "imageWidth": 32,
    "shapes": [
        {"label": "face", "shape_type": "polygon", "points": [[1, 2], [20.5, 3], [9, 18]]},
        {"label": "hair", "shape_type": "rectangle", "points": [[1, 2], [9, 8]]},
        {"label": "hands", "shape_type": "circle", "points": [[10, 10], [13, 14]]},
        {"label": "eye", "shape_type": "point", "points": [[1, 1]]},
    ],
}
COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "height": 24, "width": 32}],
    "categories": [{"id": 1, "name": "face"}, {"id": 2, "name": "hair"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 2, 20, 3, 9, 18]]},
        {
            "id": 2,
            "image_id": 1,
            "category_id": 2,
            "segmentation": {"size": [24, 32], "counts": [100, 30, 638]},
        },
    ],
}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    Image.new("RGB", SIZE[::-1], 200).save(tmp_path / "clips" / "a.png")
    return tmp_path / "clips"


def read(layout: str, source: Path, clips: Path) -> None:
    for item in EXCHANGES.load(layout).read(source, clips):
        for frame in item.frames:
            for plane in frame.values():
                assert plane.shape == SIZE


def packed(clips: Path, folder: Path) -> bytes:
    """COCO as Frisket writes it, run lengths packed."""
    face = torch.from_numpy(np.random.default_rng(0).random(SIZE) > 0.5).float()
    items = [Masked("a", probe(clips / "a.png"), [{"face": face}])]
    (path,) = EXCHANGES.load("coco").write(folder, iter(items), {"face": 1.0, "background": 0.0})
    return path.read_bytes()


@pytest.mark.parametrize("seeds", BOTH)
@pytest.mark.parametrize("tree", [COCO, LABELME], ids=["coco", "labelme"])
def test_damaged_json(clips: Path, tmp_path: Path, tree: Any, seeds: range) -> None:
    layout, file = ("coco", "annotations.json") if tree is COCO else ("labelme", "a.json")
    source = tmp_path / "theirs"
    source.mkdir()
    whole = json.dumps(tree).encode()
    wholes = [whole, packed(clips, tmp_path / "ours")] if tree is COCO else [whole]

    def run(rng: random.Random) -> None:
        if rng.random() < 0.5:
            content = damage(rng.choice(wholes), rng)
        else:
            content = json_of(damage_value(tree, rng)).encode()
        (source / file).write_bytes(content)
        read(layout, source, clips)

    tried(seeds, run)


@pytest.mark.parametrize("seeds", BOTH)
def test_damaged_xml(clips: Path, tmp_path: Path, seeds: range) -> None:
    path = tmp_path / "annotations.xml"

    def run(rng: random.Random) -> None:
        path.write_bytes(damage(XML.encode(), rng))
        read("cvat", path, clips)

    path.write_text(XML)
    read("cvat", path, clips)
    tried(seeds, run)


@pytest.mark.parametrize("seeds", BOTH)
def test_damaged_label_maps(clips: Path, tmp_path: Path, seeds: range) -> None:
    source = tmp_path / "theirs"
    face = torch.zeros(SIZE)
    face[3:9, 4:12] = 1
    items = [Masked("a", probe(clips / "a.png"), [{"face": face}])]
    list(EXCHANGES.load("cvat").write(source, iter(items), {"face": 1.0}))
    files = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}

    def run(rng: random.Random) -> None:
        for path, content in files.items():
            path.write_bytes(content)
        chosen = rng.choice(sorted(files))
        chosen.write_bytes(damage(files[chosen], rng))
        read("cvat", source, clips)

    tried(seeds, run)
    shutil.rmtree(source)


@pytest.mark.parametrize("seeds", BOTH)
def test_damaged_legends_and_records(tmp_path: Path, seeds: range) -> None:
    clip, note, legend = tmp_path / "a.png", tmp_path / "a.json", tmp_path / "legend.json"
    Image.new("RGB", SIZE[::-1], 200).save(clip)
    made = record.MaskRecord(
        clip=record.Stamp.of(clip),
        frames=1,
        height=SIZE[0],
        width=SIZE[1],
        status="done",
        settings={"a": [1, {"b": 2.5}]},
        key="00",
        masks=(record.Stamp.of(clip, "a.png"),),
        legend={"face": 1},
        regions={"face": record.DetectionRecord(0.5, 0.25, 1.0, ("ü",))},
        notes=("x",),
    )
    record.save(made, note)
    whole, tree = note.read_bytes(), json.loads(note.read_text(encoding="utf-8"))

    def run(rng: random.Random) -> None:
        if rng.random() < 0.5:
            content = damage(whole, rng)
        else:
            content = json_of(damage_value(tree, rng)).encode()
        note.write_bytes(content)
        legend.write_bytes(damage(b'{"face": 1, "hair": 2}', rng))
        for reading in (lambda: record.load(note), lambda: store.read_legend(legend)):
            with contextlib.suppress(record.BadMaskRecord, store.BadLegend):
                brief(reading, 1500)

    tried(seeds, run)
