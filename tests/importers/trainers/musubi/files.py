"""A little project of musubi-tuner and its forks, and how its tests read it."""

import json

import numpy as np
import pytest
from PIL import Image

from frisket.config.tree import Config
from frisket.media.captions import Wording
from frisket.media.files import find
from frisket.media.moving.writing import write as write_video


def draw(path, mode="RGB", size=(96, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 200).save(path)


def film(path, frames=9, fps=16):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, np.zeros((frames, 64, 96, 3), np.uint8), fps, lossless=False)


@pytest.fixture
def write(tmp_path):
    def write(text, name="set.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


@pytest.fixture
def media(tmp_path):
    """Pictures and videos with captions, masks and control pictures; one picture has no caption."""
    for name in ("a", "b", "c"):
        draw(tmp_path / "cats" / f"{name}.png")
        draw(tmp_path / "masks" / f"{name}.png", "L")
        draw(tmp_path / "control" / f"{name}.png")
    for name in ("a", "b"):
        (tmp_path / "cats" / f"{name}.txt").write_text(f"{name}\n\nsecond paragraph\n")
    film(tmp_path / "films" / "v.mp4")
    draw(tmp_path / "filmmasks" / "v.png", "L")
    (tmp_path / "films" / "v.cap").write_text("a film")
    return tmp_path


def config_of(imported):
    """The imported tables as a configuration; refuses what Frisket does not know."""
    folder = imported.source.parent
    for name, lines in imported.manifests.items():
        (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Config.model_validate({"data": list(imported.data), **imported.sections})


def found_by(data, folder):
    masks = data.masks
    return find(
        folder / data.clips,
        masks=masks.source,
        folders={"": masks.path} if masks.path else {},
        captions=data.captions,
        caption=data.caption,
        wording=Wording(data.caption_extension, data.caption_part),
    ).clips


def notes_of(imported, kind):
    return {note.option: note for note in imported.notes if note.kind == kind}
