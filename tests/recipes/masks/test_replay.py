"""What was painted in the studio is left alone by `frisket masks`, and can be painted again."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.recipes.mask_runs import PHOTOS, run
from typer.testing import CliRunner

from frisket.cli.app import app
from frisket.masks.painting.strokes import IDS, apply, read_edit
from frisket.recipes.masks.replay import NoEdits, replay
from frisket.studio.documents.base import MaskDocument, MaskPatch, Tile
from frisket.studio.documents.opening import open_document
from frisket.studio.state import Studio
from frisket.studio.workspace import Workspace

EDITS: list[dict[str, Any]] = [
    {"op": "stroke", "id": 1, "points": [40, 40, 12, 90, 60.5, 8.25], "locked": [], "only": None},
    {"op": "stroke", "id": 2, "points": [200, 200, 50], "locked": [], "only": None},
    {"op": "undo"},
    {"op": "polygon", "id": 2, "points": [5, 5, 80, 9, 60, 70], "rule": "evenodd", "locked": [1]},
    {"op": "fill", "id": 3, "x": 0, "y": 0, "contiguous": True, "locked": [1, 2]},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph with the mask that `frisket masks` makes of it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "clips").mkdir()
    shutil.copy(PHOTOS / "astronaut.jpg", folder / "clips/astronaut.jpg")
    run(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "work")


def make_again(made: Path, folder: Path) -> None:
    """What --overwrite comes to, without the work: see the first test."""
    shutil.copytree(made / "masks", folder / "masks", dirs_exist_ok=True)


def open_one(folder: Path) -> MaskDocument:
    studio = Studio(Workspace(folder))
    (clip_set,) = studio.workspace.list_sets()
    (clip,) = studio.workspace.list_clips(clip_set)
    return open_document(studio, clip.id)


def paint(folder: Path, edits: list[dict[str, Any]]) -> None:
    """Save edits as the page does: the tiles they come to, and their log."""
    document = open_one(folder)
    snapshot = document.read(0)
    ids = snapshot.content.ids.copy()
    for edit in (edits[0], *edits[3:]) if len(edits) > 3 else edits:
        apply(read_edit(edit, ids.size), ids)
    height, width = ids.shape
    patch = MaskPatch(width, height, (Tile(IDS, 0, 0, ids),), tuple(edits))
    document.write(0, patch, snapshot.description.revision)


def test_a_painted_mask_is_kept_and_painted_again_on_a_new_one(folder: Path) -> None:
    mask = folder / "masks/astronaut.png"
    before = mask.read_bytes()
    paint(folder, EDITS)
    painted = mask.read_bytes()
    assert painted != before
    run(folder)
    assert mask.read_bytes() == painted, "hand work is left alone"
    answer = CliRunner().invoke(app, ["masks", "replay", str(folder)])
    assert answer.exit_code == 1
    assert "may hold these edits already" in answer.output
    run(folder, overwrite=True)
    assert mask.read_bytes() == before
    dry = CliRunner().invoke(app, ["masks", "replay", str(folder), "--dry-run"])
    assert "1 masks would be painted again" in dry.output
    assert mask.read_bytes() == before
    answer = CliRunner().invoke(app, ["masks", "replay", str(folder)])
    assert answer.exit_code == 0, answer.output
    assert mask.read_bytes() == painted
    record = json.loads((folder / "masks/astronaut.json").read_text())
    assert record["notes"][-1].startswith("edited by hand in the studio")
    run(folder)
    assert mask.read_bytes() == painted


def test_a_restored_version_undoes_what_came_after_it(folder: Path, made: Path) -> None:
    mask = folder / "masks/astronaut.png"
    paint(folder, EDITS[:1])
    first = mask.read_bytes()
    paint(folder, EDITS[1:2])
    document: Any = open_one(folder)
    document.restore(1, document.read(0).description.revision)
    assert mask.read_bytes() == first
    make_again(made, folder)
    assert replay(folder).changed == ["astronaut"]
    assert mask.read_bytes() == first


def test_what_cannot_be_painted_again_is_named(folder: Path, made: Path) -> None:
    with pytest.raises(NoEdits, match="edits"):
        replay(folder)
    paint(folder, EDITS[:1])
    mask = folder / "masks/astronaut.png"
    make_again(made, folder)
    (log,) = (folder / ".frisket-studio/edits").iterdir()
    text = log.read_text(encoding="utf-8")
    log.write_text(text + '{"cut off', encoding="utf-8")
    assert replay(folder, dry_run=True).changed == ["astronaut"]
    log.write_text(text + '{"version": 1}\n', encoding="utf-8")
    assert "line 2: name" in replay(folder).left[log.stem]
    log.write_text(text.replace("12", '"x"', 1), encoding="utf-8")
    assert replay(folder).left
    log.write_text(text, encoding="utf-8")
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(mask)
    assert "changed since it was made" in replay(folder).left["astronaut"]
    assert "5 x 5" in replay(folder, overwrite=True).left["astronaut"]
    mask.unlink()
    assert "make it first" in replay(folder).left["astronaut"]
