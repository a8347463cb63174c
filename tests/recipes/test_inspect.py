"""Inspect names every fault of a data set that has them all, and stays silent on a good one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.config.tree import Config
from frisket.media.frames import write_video
from frisket.pocket.world import Background, Scene, draw, frames_of, random_creature
from frisket.recipes.inspect import Finding, inspect

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def good(folder: Path, name: str, seed: int = 0, caption: str = "sks") -> np.ndarray:
    """A 32 px clip of the creature with caption and mask; returns its mask."""
    picture, planes = draw(random_creature(np.random.RandomState(seed)))
    cover = (np.clip(sum(planes.values()), 0, 1) * 255).round().astype(np.uint8)
    save(folder / "clips" / f"{name}.png", picture)
    save(folder / "masks" / f"{name}.png", cover)
    (folder / "clips" / f"{name}.txt").write_text(caption, encoding="utf-8")
    return cover


def config_of(folder: Path, regions: dict[str, float] | None = None, **masks: object) -> Config:
    return Config.model_validate(
        {
            "regions": regions or {"subject": 1.0},
            "data": [
                {
                    "clips": folder / "clips",
                    "masks": {"source": "folder", "path": folder / "masks", **masks},
                    "trigger": "sks",
                }
            ],
        }
    )


def kinds(findings: list[Finding], clip: str) -> set[str]:
    return {one.kind for one in findings if one.clip == clip}


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """A data set with every fault, one a clip."""
    names = ("good", "empty", "full", "inverted", "thin", "tiny", "aspect", "small-mask")
    for seed, name in enumerate(names):
        cover = good(tmp_path, name, seed)
        mask = tmp_path / "masks" / f"{name}.png"
        line = np.zeros((32, 32), np.uint8)
        match name:
            case "empty":
                save(mask, np.zeros_like(cover))
            case "full":
                save(mask, np.full_like(cover, 255))
            case "inverted":
                line[4:28, 4:28] = 255
                save(mask, 255 - line)
            case "thin":
                line[::4] = 120
                save(mask, line * 2)
            case "tiny":
                line[14:18, 14:18] = 255
                save(mask, line)
            case "aspect":
                save(mask, cover[:20])
            case "small-mask":
                save(mask, cover[::2, ::2])
    good(tmp_path, "no-mask", 8)
    (tmp_path / "masks" / "no-mask.png").unlink()
    good(tmp_path, "no-caption", 9, caption="")
    good(tmp_path, "no-trigger", 10, caption="a creature")
    good(tmp_path, "broken", 11)
    clip = tmp_path / "clips" / "broken.png"
    clip.write_bytes(clip.read_bytes()[:200])
    save(tmp_path / "masks" / "nobody.png", np.zeros((32, 32), np.uint8))
    return tmp_path


def test_every_fault_is_named_once_and_the_good_clip_is_clean(faulty: Path) -> None:
    found = inspect(config_of(faulty), faulty / "out")
    assert kinds(found, "good") == set()
    assert kinds(found, "empty") == {"empty"}
    assert kinds(found, "full") == {"full"}
    assert kinds(found, "inverted") == {"inverted"}
    assert kinds(found, "thin") == {"lost at the grid"}
    assert kinds(found, "tiny") == {"tiny"}
    assert kinds(found, "aspect") == {"aspect"}
    assert kinds(found, "small-mask") == {"size"}
    assert kinds(found, "no-mask") == {"missing"}
    assert kinds(found, "no-caption") == {"uncaptioned"}
    assert kinds(found, "no-trigger") == {"trigger"}
    assert kinds(found, "broken") == {"unreadable"}
    assert kinds(found, "") == {"orphan"}
    order = ["error", "warning", "note"]
    assert [one.severity for one in found] == sorted(
        (one.severity for one in found), key=order.index
    )


def test_sentences_name_the_file_the_value_and_the_fix(faulty: Path) -> None:
    found = {one.kind: one for one in inspect(config_of(faulty), faulty / "out")}
    assert "aspect.png is 32 x 20 but the clip is 32 x 32" in found["aspect"].sentence
    assert "own size" in found["aspect"].fix
    assert "nobody.png" in found["orphan"].sentence
    assert "no-mask.png" in found["missing"].fix
    assert "invert = true" in found["inverted"].fix
    assert 'reading = "max"' in found["lost at the grid"].fix
    assert "no-caption.txt" in found["uncaptioned"].fix
    assert "broken.png" in found["unreadable"].sentence


def test_the_pages_are_whole_and_self_contained(faulty: Path) -> None:
    out = faulty / "out"
    found = inspect(config_of(faulty), out)
    page = (out / "index.html").read_text(encoding="utf-8")
    assert page.rstrip().endswith("</html>")
    assert "http://" not in page
    assert "https://" not in page
    assert page.index("Findings") < page.index("Clips</h2>")
    for one in found:
        assert one.kind in page
    assert page.count('<tr id="clip-') == 12
    listed = json.loads((out / "findings.json").read_text(encoding="utf-8"))
    assert [row["kind"] for row in listed] == [one.kind for one in found]
    with Image.open(out / "contact-sheet.png") as sheet:
        assert sheet.width > 800
    assert not list(out.glob(".*"))


def test_reading_max_brings_a_thin_region_back(tmp_path: Path) -> None:
    good(tmp_path, "thin")
    line = np.zeros((32, 32), np.uint8)
    line[::4] = 240
    save(tmp_path / "masks" / "thin.png", line)
    assert kinds(inspect(config_of(tmp_path), tmp_path / "out"), "thin") == {"lost at the grid"}
    assert not inspect(config_of(tmp_path, reading="max"), tmp_path / "out")


def test_a_required_mask_that_is_missing_is_an_error(tmp_path: Path) -> None:
    good(tmp_path, "a")
    good(tmp_path, "b", 1)
    (tmp_path / "masks" / "b.png").unlink()
    (found,) = inspect(config_of(tmp_path, require=True), tmp_path / "out")
    assert (found.kind, found.severity, found.clip) == ("missing", "error", "b")


def test_a_mask_folder_that_matches_nothing_still_shows_the_clips(tmp_path: Path) -> None:
    good(tmp_path, "a")
    (tmp_path / "masks" / "a.png").rename(tmp_path / "masks" / "other.png")
    found = inspect(config_of(tmp_path), tmp_path / "out")
    assert ("no mask at all", "error") in {(one.kind, one.severity) for one in found}
    assert 'id="clip-0"' in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_a_folder_of_clips_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    (found,) = inspect(config_of(tmp_path), tmp_path / "out")
    assert found.kind == "unreadable"
    assert "there is no such folder of clips" in found.sentence


def test_a_region_no_mask_shows_is_told(tmp_path: Path) -> None:
    good(tmp_path, "a")
    levels = {"body": 255, "hat": 90}
    config = config_of(tmp_path, {"body": 1.0, "hat": 0.5}, levels=levels)
    save(tmp_path / "masks" / "a.png", np.where(np.eye(32) > 2, 0, 255).astype(np.uint8))
    found = inspect(config, tmp_path / "out")
    assert "unused region" in kinds(found, "")


def test_names_and_captions_cannot_break_the_page(tmp_path: Path) -> None:
    good(tmp_path, "<b>&'ü", caption="sks <script>alert(1)</script>")
    inspect(config_of(tmp_path), tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;b&gt;&amp;&#39;ü" in page


def test_a_video_is_shown_with_its_film_strip(tmp_path: Path) -> None:
    wall = Background("wall", "white", "white")
    scene = Scene(wall, "circle", "red", 14.0, 16.0, 8.0, "rightward")
    frames, planes = zip(*(draw(one, 64) for one in frames_of(scene, 9)), strict=True)
    (tmp_path / "clips").mkdir()
    (tmp_path / "masks").mkdir()
    write_video(
        tmp_path / "clips" / "roll.mkv", torch.from_numpy(np.stack(frames)), 8.0, lossless=True
    )
    grey = np.stack([(plane["subject"] * 255).round().astype(np.uint8) for plane in planes])
    masks = torch.from_numpy(grey)[..., None].repeat(1, 1, 1, 3)
    write_video(tmp_path / "masks" / "roll.mkv", masks, 8.0, lossless=True)
    (tmp_path / "clips" / "roll.txt").write_text("sks", encoding="utf-8")
    config = config_of(tmp_path).model_copy(
        update={"model": Config().model.model_copy(update={"family": "wan"})}
    )
    data = config.data[0].model_copy(update={"resolution": 64, "frames": 9})
    found = inspect(config.model_copy(update={"data": (data,)}), tmp_path / "out")
    assert {one.severity for one in found} <= {"note"}
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "film strip of roll" in page
    assert "9 frames (3 x 8 x 8 cells)" in page


def test_the_example_photographs_are_clean(tmp_path: Path) -> None:
    levels = {"face": 255, "body": 128, "hair": 80, "background": 0}
    data = {
        "clips": PHOTOS / "clips",
        "masks": {"source": "folder", "path": PHOTOS / "masks", "levels": levels},
        "resolution": 64,
    }
    regions = {"face": 1.0, "body": 0.5, "hair": 0.3, "background": 0.0}
    config = Config.model_validate({"data": [data], "regions": regions})
    assert inspect(config, tmp_path / "out") == []
