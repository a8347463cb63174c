"""Damaged annotations of other tools: masks come of them, or one sentence that names the file."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from tests.fuzz.mutate import damage, damage_value, tried, written
from tests.fuzz.test_media import QUICK, slow

from frisket.recipes.masks.exchange import import_masks

COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 24, "width": 32}],
    "categories": [{"id": 1, "name": "face"}, {"id": 2, "name": "hair"}],
    "annotations": [
        {"image_id": 1, "category_id": 1, "segmentation": [[2, 2, 20, 2, 20, 20]]},
        {"image_id": 1, "category_id": 2, "segmentation": {"size": [24, 32], "counts": [700, 68]}},
    ],
}
CVAT = b"""<?xml version="1.0" encoding="utf-8"?>
<annotations><image id="0" name="a.png" width="32" height="24">
<polygon label="face" points="2.0,2.0;20.0,2.0;20.0,20.0"/>
<box label="hair" xtl="1" ytl="2" xbr="9" ybr="8"/>
<mask label="coat" rle="3, 5, 4" left="4" top="5" width="4" height="3"/>
</image></annotations>"""


def labelme():
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 5), 255, np.uint8)).save(buffer, "PNG")
    bits = base64.b64encode(buffer.getvalue()).decode()
    return {
        "imageHeight": 24,
        "imageWidth": 32,
        "shapes": [
            {"label": "face", "shape_type": "polygon", "points": [[2, 2], [20, 2], [20, 20]]},
            {"label": "hair", "shape_type": "circle", "points": [[9, 9], [12, 9]]},
            {"label": "coat", "shape_type": "rectangle", "points": [[1, 1], [5, 5]]},
            {"label": "hat", "shape_type": "mask", "points": [[3, 3], [8, 7]], "mask": bits},
        ],
    }


@pytest.mark.parametrize("seeds", [QUICK, *slow(100, parts=2)])
def test_damaged_annotations(seeds, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    Image.new("RGB", (32, 24)).save(clips / "a.png")

    def run(rng):
        layout = rng.choice(("coco", "labelme", "cvat"))
        if layout == "cvat":
            source, content = tmp_path / "annotations.xml", damage(CVAT, rng, 4)
        else:
            source = tmp_path / ("a.json" if layout == "labelme" else "instances.json")
            told = damage_value(labelme() if layout == "labelme" else COCO, rng, 4)
            content = written(told, rng)
            content = damage(content, rng, 2) if rng.random() < 0.3 else content
        source.write_bytes(content)
        import_masks(source, layout, clips, tmp_path / "out", overwrite=True)

    assert all(tried(seeds, run).values())


def test_runs_and_pictures_that_unpack_to_much_are_refused(tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    Image.new("RGB", (32, 24)).save(clips / "a.png")
    source = tmp_path / "annotations.xml"
    source.write_bytes(CVAT.replace(b"3, 5, 4", b"99999999999999, 1"))
    with pytest.raises(ValueError, match="its runs make 100000000000000 pixels, its size is 4 x 3"):
        import_masks(source, "cvat", clips, tmp_path / "out")
