"""The doctor around its findings: fixes with the old files kept, pages, processes, exit codes."""

import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.inspection.drawn import clean, save

from frisket.cli import app
from frisket.config.tree import Config
from frisket.data.mask_pipeline import cover
from frisket.families.base import FAMILIES, Source
from frisket.grid import LatentGrid
from frisket.inspection import pages as pages_module
from frisket.inspection import per_clip
from frisket.inspection.fix import UnknownClip, fix, plan_fixes
from frisket.inspection.per_clip import Looker, look
from frisket.masks.weights import RegionWeights
from frisket.media.files import find
from frisket.media.frames import decode_grey
from frisket.recipes.inspect import inspect
from frisket.runs.prepare import clipset_of


def drawn(folder: Path, count: int) -> None:
    """A clean set of pictures of up to 320 pixels."""
    for one in clean(np.random.RandomState(0), count):
        save(folder, one)


def config_of(folder: Path, **more: object) -> Config:
    masks = {"source": "folder", "path": folder / "masks", **more.pop("masks", {})}
    data = {"clips": folder / "clips", "masks": masks, "resolution": 128, **more.pop("data", {})}
    return Config.model_validate({"data": [data], **more})


def kinds(findings) -> list[tuple[str, str]]:
    return [(one.kind, one.clip) for one in findings]


@pytest.fixture
def fixable(tmp_path: Path) -> Path:
    drawn(tmp_path, 4)
    masks = tmp_path / "masks"
    for kind in ("clips", "masks"):
        for path in (tmp_path / kind).glob("0000.*"):
            path.rename(path.with_stem("anna" if kind == "clips" else "Anna"))
    Image.open(masks / "0001.png").save(masks / "0001.jpg", quality=80)
    (masks / "0001.png").unlink()
    ones = (np.asarray(Image.open(masks / "0002.png")) > 127).astype(np.uint8)
    Image.fromarray(ones).save(masks / "0002.png")
    return tmp_path


def test_fix_mends_what_needs_no_guess_and_keeps_the_old_files(fixable: Path) -> None:
    config = config_of(fixable)
    before = {one.kind for one in inspect(config, fixable / "out")}
    assert {"orphan", "missing", "lossy mask", "faint"} <= before
    pictures = {path: path.read_bytes() for path in (fixable / "clips").iterdir()}
    old = {path.name: path.read_bytes() for path in (fixable / "masks").iterdir()}
    grey = decode_grey(fixable / "masks" / "0001.jpg")

    done = fix(config, fixable / "out")

    assert sorted(one.path.name for one in done) == ["0001.jpg", "0002.png", "Anna.png"]
    assert all(one.kept.read_bytes() == old[one.path.name] for one in done)
    assert {path: path.read_bytes() for path in (fixable / "clips").iterdir()} == pictures
    names = sorted(path.name for path in (fixable / "masks").iterdir())
    assert names == ["0001.png", "0002.png", "0003.png", "anna.png"]
    assert torch.equal(decode_grey(fixable / "masks" / "0001.png"), grey)
    assert inspect(config, fixable / "out") == []
    assert fix(config, fixable / "out") == []


def test_fix_leaves_what_could_be_meant_otherwise(tmp_path: Path) -> None:
    drawn(tmp_path, 4)
    masks = tmp_path / "masks"
    (masks / "0000.png").rename(masks / "0000_mask.png")  # perhaps, perhaps not
    (masks / "0001.png").rename(masks / "orphan.png")
    three = np.asarray(Image.open(masks / "0002.png")) // 100  # 0, 1 and 2: labels
    Image.fromarray(three.astype(np.uint8)).save(masks / "0002.png")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    assert fix(config_of(tmp_path), tmp_path / "out") == []
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_label_maps_are_not_stretched(tmp_path: Path) -> None:
    drawn(tmp_path, 2)
    for path in (tmp_path / "masks").iterdir():
        ones = (np.asarray(Image.open(path)) > 127).astype(np.uint8)
        Image.fromarray(ones).save(path)
    config = config_of(tmp_path, masks={"legend": {"subject": 1}})
    assert fix(config, tmp_path / "out") == []
    assert inspect(config, tmp_path / "out") == []


def test_fix_of_a_broken_set_does_nothing(tmp_path: Path) -> None:
    assert fix(config_of(tmp_path), tmp_path / "out") == []
    drawn(tmp_path, 2)
    (tmp_path / "masks" / "0000.png").write_bytes(b"no picture")
    assert fix(config_of(tmp_path), tmp_path / "out") == []


def test_many_clips_are_laid_on_pages_gravest_first(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(pages_module, "ON_PAGE", 5)
    drawn(tmp_path, 12)
    (tmp_path / "masks" / "0009.png").unlink()
    out = tmp_path / "out"
    inspect(config_of(tmp_path), out)
    pages = [out / "index.html", out / "clips-2.html", out / "clips-3.html"]
    texts = [page.read_text(encoding="utf-8") for page in pages]
    rows = [re.findall(r'<div class="name" title="[^"]*">(\w+)<', text) for text in texts]
    assert [len(names) for names in rows] == [5, 5, 2]
    assert rows[0][0] == "0009"
    assert sorted(name for names in rows for name in names) == [
        f"{place:04d}" for place in range(12)
    ]
    assert 'href="index.html#clip-0"' in texts[0]
    assert all('href="clips-2.html"' in text for text in texts)
    assert all("https://" not in text for text in texts)
    for path in tmp_path.glob("*/000[6-9].*"):
        path.unlink()
    for path in tmp_path.glob("*/001*.*"):
        path.unlink()
    inspect(config_of(tmp_path), out)
    assert not (out / "clips-3.html").exists()


def test_processes_see_what_one_sees(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("frisket.recipes.inspect.MANY", 4)
    drawn(tmp_path, 10)
    config = config_of(tmp_path)
    alone = inspect(config, tmp_path / "one", workers=1)
    shared = inspect(config, tmp_path / "two", workers=2)
    assert alone == shared
    pages = [(tmp_path / name / "index.html").read_bytes() for name in ("one", "two")]
    assert pages[0] == pages[1]


def test_weights_are_shown_as_the_loss_sees_them_mirrored_too(tmp_path: Path) -> None:
    drawn(tmp_path, 1)
    family = FAMILIES.load("pocket")
    config = config_of(tmp_path, data={"flip": True})
    clipset = clipset_of(config, config.data[0], family, Source(variant="image"))
    looker = Looker(clipset, LatentGrid(channels=4, spatial=8), RegionWeights({"subject": 1.0}))
    (found,) = find(
        clipset.clips, masks="folder", folders=clipset.masking.folders, captions=None
    ).clips
    (window,) = looker.windows(found)
    turned = replace(window, geometry=replace(window.geometry, flip=True))
    for each, flip in ((window, False), (turned, True)):
        laid, _, _ = cover(each, ("subject",), looker.grid)
        expected = looker.weights(laid["planes"][None], torch.ones(1, dtype=torch.bool))[0, 0]
        planes = looker.planes(window)
        if flip:
            planes = {name: plane.flip(-1) for name, plane in planes.items()}
        assert torch.allclose(torch.from_numpy(looker.weigh(looker.cells(planes))), expected)
    assert set(look(looker, found).pictures) == {"clip", "regions", "weights", "mirrored"}


def test_the_halo_of_the_pocket_vae_is_none(tmp_path: Path) -> None:
    drawn(tmp_path, 2)
    config = config_of(tmp_path)
    assert inspect(config, tmp_path / "out", vae=True) == []


def test_a_real_vae_is_heard_beyond_its_cells(tmp_path: Path) -> None:
    drawn(tmp_path, 2)
    family = FAMILIES.load("stable_diffusion")
    variant = next(iter(family.variants))
    family.save(family.tiny(variant), tmp_path / "weights")
    config = config_of(
        tmp_path,
        model={
            "family": "stable_diffusion",
            "variant": variant,
            "source": str(tmp_path / "weights"),
        },
    )
    (found,) = [one for one in inspect(config, tmp_path / "out", vae=True) if one.kind == "halo"]
    assert "all through" in found.sentence  # its norms pool over the picture
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"source": str(tmp_path / "none")})}
    )
    with pytest.raises(OSError, match="none"):
        inspect(config, tmp_path / "out", vae=True)


def test_captions_in_another_encoding_and_twice_named_files_are_told_beside_the_others(
    tmp_path: Path,
) -> None:
    drawn(tmp_path, 4)
    (tmp_path / "clips" / "0001.txt").write_bytes("sks, caf\u00e9".encode("latin-1"))
    save_as = tmp_path / "masks" / "0002.bmp"
    Image.open(tmp_path / "masks" / "0002.png").save(save_as)
    (tmp_path / "clips" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = inspect(config_of(tmp_path), tmp_path / "out")
    assert {("caption encoding", "0001"), ("ambiguous", "0002"), ("unreadable", "gone")} <= set(
        kinds(found)
    )
    assert {one.severity for one in found if one.kind in ("caption encoding", "ambiguous")} == {
        "error"
    }
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert page.count('<tr id="clip-') == 4


def test_whatever_goes_wrong_with_a_clip_is_its_finding(tmp_path: Path, monkeypatch) -> None:
    drawn(tmp_path, 4)
    whole = Image.open(tmp_path / "clips" / "0001.png")
    kept = io.BytesIO()
    frames = [whole.rotate(angle).convert("P") for angle in (0, 9, 18)]
    frames[0].save(kept, "GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "clips" / "0001.png").unlink()
    (tmp_path / "clips" / "0001.gif").write_bytes(kept.getvalue()[: len(kept.getvalue()) // 2])

    def fail(name, *_):
        if name == "0002":
            raise RuntimeError("of no kind that is known")
        return []

    monkeypatch.setattr(per_clip, "look_at_sizes", fail)
    (tmp_path / "clips" / "out.png").symlink_to(tmp_path / "masks" / "0003.png")
    found = inspect(config_of(tmp_path), tmp_path / "out")
    told = {one.clip: one.sentence for one in found if one.kind == "unreadable"}
    assert set(told) == {"0001", "0002"}
    assert "0001.gif: " in told["0001"]
    assert "0002.png: cannot be looked at (RuntimeError: of no kind that is known)" in told["0002"]
    (linked,) = [one for one in found if one.kind == "link"]
    assert "out.png, from " in linked.sentence
    assert linked.severity == "note"


def test_exit_codes_for_pipelines(tmp_path: Path, monkeypatch, capsys) -> None:
    drawn(tmp_path, 3)
    (tmp_path / "frisket.toml").write_text(
        '[[data]]\nclips = "clips"\nmasks = "masks"\nresolution = 128\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["frisket", "inspect", *words])
        with pytest.raises(SystemExit) as left:
            app.main()
        return int(left.value.code or 0)

    assert run() == 0
    assert run("--strict") == 0
    (tmp_path / "masks" / "0000.png").rename(tmp_path / "masks" / "0000.jpg.png")
    assert run() == 0
    assert run("--strict") == 1
    said = capsys.readouterr().out
    assert re.search(r"^warning +missing", said, re.MULTILINE)
    (tmp_path / "clips" / "0001.txt").write_bytes(b"\xff\xff\xff")
    assert run() == 1
    listed = json.loads((tmp_path / "runs/first/inspect/findings.json").read_text())
    assert listed[0]["severity"] == "error"


def test_a_plan_changes_nothing_and_one_clip_alone_can_be_mended(fixable):
    config = config_of(fixable)
    before = {path: path.read_bytes() for path in (fixable / "masks").iterdir()}
    plans = plan_fixes(config)
    assert [(plan.clip, plan.path.name, plan.now.name) for plan in plans] == [
        ("anna", "Anna.png", "anna.png"),
        ("0001", "0001.jpg", "0001.png"),
        ("0002", "0002.png", "0002.png"),
    ]
    assert {path: path.read_bytes() for path in (fixable / "masks").iterdir()} == before
    (done,) = fix(config, fixable / "out", only=["0002"])
    assert done.path.name == "0002.png"
    assert done.kept.is_file()
    assert [plan.clip for plan in plan_fixes(config, only=["anna", "0002"])] == ["anna"]
    with pytest.raises(UnknownClip, match="did you mean 'anna'"):
        plan_fixes(config, only=["annna"])
