"""Control pictures from the config on: what is refused, listed by a manifest, shown by inspect."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frisket.config.calls import ControlMakeRequest
from frisket.config.checks.control_data import find_control_data_problems
from frisket.config.load import ConfigError, load
from frisket.config.tree import Config
from frisket.data.cached.clip_keys import write_clip_keys
from frisket.data.loader import Loader
from frisket.inspection.pages import WITH_CONTROL
from frisket.pocket.world import draw, random_creature
from frisket.recipes.control.make import make_controls
from frisket.recipes.inspect import inspect
from frisket.runs.prepare import prepare


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips of the creature with masks, captions and control pictures."""
    for seed, name in enumerate("ab"):
        picture, planes = draw(random_creature(np.random.RandomState(seed)))
        cover = (np.clip(sum(planes.values()), 0, 1) * 255).round().astype(np.uint8)
        save(tmp_path / "clips" / f"{name}.png", picture)
        save(tmp_path / "masks" / f"{name}.png", cover)
        save(tmp_path / "control" / f"{name}.png", np.roll(picture, 1, -1))
        (tmp_path / "clips" / f"{name}.txt").write_text("sks", encoding="utf-8")
    return tmp_path


def config_of(folder: Path, tables: str = "", **data: object) -> Config:
    lines = {"clips": "clips", "masks": "masks", "control": "control", **data}
    table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in lines.items() if value)
    (folder / "run.toml").write_text(
        f'{tables}\n[model]\nfamily = "pocket"\n[regions]\nsubject = 1.0\n'
        f"[[data]]\n"
        f'{table}\n[run]\noutput = "run"\ncache = "cache"\n'
    )
    return load(folder / "run.toml")


def test_a_folder_is_taken_from_the_config_on(folder: Path) -> None:
    config = config_of(folder)
    assert config.data[0].control.path == folder / "control"
    assert list(find_control_data_problems(config)) == []


@pytest.mark.parametrize("name", ["swap", "mix"])
def test_composites_are_refused(folder: Path, name: str) -> None:
    extra = 'prompts = ["a beach"]\n' if name == "swap" else ""
    config = config_of(folder, f"[{name}]\nrate = 0.5\n{extra}")
    ((key, sentence),) = find_control_data_problems(config)
    assert key == (name, "rate")
    assert "its control picture stays as it was" in sentence


def test_a_set_without_is_refused_beside_one_with(folder: Path) -> None:
    config = config_of(folder)
    plain = config.data[0].model_copy(update={"control": None})
    config = config.model_copy(update={"data": (*config.data, plain)})
    ((key, sentence),) = find_control_data_problems(config)
    assert key == ("data", 1, "control")
    assert "no `control` and others have one" in sentence


def test_listed_is_for_a_manifest(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r'"listed" is for a \.jsonl manifest'):
        config_of(folder, control="listed")


def test_inspect_shows_the_control_and_names_what_is_wrong(folder: Path) -> None:
    save(folder / "control" / "b.png", np.zeros((32, 40, 3), np.uint8))
    findings = inspect(config_of(folder), folder / "out")
    (fault,) = [finding for finding in findings if finding.kind == "control"]
    assert (fault.clip, fault.severity) == ("b", "error")
    assert "b.png is 40 x 32" in fault.sentence
    page = (folder / "out" / "index.html").read_text()
    assert 'alt="control of a"' in page
    assert 'alt="control of b"' not in page
    with Image.open(folder / "out" / "contact-sheet.png") as sheet:
        assert sheet.width > len(WITH_CONTROL) * 256


def test_inspect_names_a_clip_without_and_a_folder_without_any(folder: Path) -> None:
    (folder / "control" / "a.png").unlink()
    (lacking,) = [f for f in inspect(config_of(folder), folder / "out") if "control" in f.kind]
    assert (lacking.kind, lacking.clip) == ("no control", "a")
    (folder / "control" / "b.png").unlink()
    (none,) = [f for f in inspect(config_of(folder), folder / "out") if "control" in f.kind]
    assert (none.kind, none.clip) == ("no control at all", "")


def test_a_manifest_brings_its_own(folder: Path) -> None:
    lines = [
        {"path": f"clips/{n}.png", "mask": f"masks/{n}.png", "control": f"control/{n}.png"}
        for n in "ab"
    ]
    (folder / "set.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = config_of(folder, clips="set.jsonl", masks="listed", control="listed")
    findings = inspect(config, folder / "out")
    assert not [finding for finding in findings if "control" in finding.kind]
    assert 'alt="control of clips/a"' in (folder / "out" / "index.html").read_text()


def test_prepare_brings_them_into_batches_and_into_the_list_of_keys(folder: Path) -> None:
    """The whole path with the pocket family's own VAE: drawn by `control make`, trained on."""
    request = ControlMakeRequest(folder=folder / "clips", kind="canny", output=folder / "edges")
    assert make_controls(request).counts == {"made": 2}
    prepared = prepare(config_of(folder, control="edges"))
    batch = Loader(prepared, batch=2, seed=0, prefetch=0).at(0)
    assert batch.control.shape == (2, 3, 1, 32, 32)
    assert set(batch.control.unique().tolist()) == {0.0, 1.0}
    rows = json.loads(write_clip_keys(prepared, folder).read_text())["clips"]
    assert [row["control"] for row in rows] == [item.control for item in prepared.items]
    plain = prepare(config_of(folder, control=""))
    rows = json.loads(write_clip_keys(plain, folder).read_text())["clips"]
    assert all("control" not in row for row in rows)
    assert [item.latents for item in plain.items] == [item.latents for item in prepared.items]
