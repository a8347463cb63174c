"""The record of a run: which clip, frames and crop a line of its metrics is about."""

import json
from pathlib import Path

from PIL import Image

from frisket.config.load import load
from frisket.recipes.train import train


def test_a_spike_leads_to_the_file_the_frames_and_the_crop(tmp_path: Path) -> None:
    clips, masks = tmp_path / "clips", tmp_path / "masks"
    clips.mkdir(), masks.mkdir()
    for name, width in (("wide", 96), ("square", 64)):
        Image.new("RGB", (width, 64), "teal").save(clips / f"{name}.png")
        mask = Image.new("L", (width, 64))
        mask.paste(255, (16, 16, 48, 48))
        mask.paste(128, (16, 16, 48, 30))
        mask.save(masks / f"{name}.png")
    file = tmp_path / "frisket.toml"
    file.write_text(
        '[[data]]\nclips = "clips"\nresolution = [64, 64]\nflip = true\n'
        'masks = { source = "folder", path = "masks", levels = { low = 255, high = 128 } }\n'
        "[regions]\nlow = 1.0\nhigh = 0.5\n[run]\nsteps = 3\nbatch = 2\nsave_every = 0\n",
        encoding="utf-8",
    )
    train(load(file))
    folder = tmp_path / "runs/first"
    items = json.loads((folder / "clips.json").read_text())["clips"]
    assert {(item["name"], item["flip"]) for item in items} == {
        (name, flip) for name in ("wide", "square") for flip in (False, True)
    }
    wide = next(item for item in items if item["name"] == "wide")
    assert wide["clip"] == str(clips / "wide.png")
    top, left, height, width = wide["crop"]
    assert 0 <= top <= top + height <= 64
    assert 0 <= left <= left + width <= 96
    assert wide["frames"] == [0, 0, 1]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert [items[clip["item"]]["name"] for clip in line["clips"]] == [
            clip["name"] for clip in line["clips"]
        ]
        assert {"loss/low", "loss/high"} <= line.keys()
    teaches = json.loads((folder / "banner.json").read_text())
    assert dict(map(tuple, teaches["rows"]))["with a mask"] == "2 of 2"
