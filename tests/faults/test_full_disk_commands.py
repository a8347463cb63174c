"""Commands whose output lies on a full disk: the file is named, and nothing half stays."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from frisket.cli.app import app
from frisket.disk.atomic import CannotWrite
from frisket.maskgen.files import store

COMMANDS = {
    "schema": ["schema", "-o", "OUT.json"],
    "reference": ["schema", "--reference", "OUT.md"],
    "rules": ["masks", "rules", "-o", "OUT.toml"],
    "families": ["families", "--reference", "OUT.md"],
    "init": ["init", "clips", "-o", "OUT.toml"],
    "import": ["import", "set.toml", "-o", "OUT.toml"],
    "inspect": ["inspect", "run.toml", "-o", "DISK/pages", "--workers", "1"],
    "pack": ["pack", "clips", "--to", "folder", "-o", "DISK/packed"],
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few clips, a configuration of ours and one of sd-scripts'."""
    (tmp_path / "clips").mkdir()
    for name in ("a", "b", "c"):
        noise = torch.randint(0, 255, (200, 200, 3), dtype=torch.uint8).numpy()
        Image.fromarray(noise).save(tmp_path / "clips" / f"{name}.png")
        (tmp_path / "clips" / f"{name}.txt").write_text("sks")
    (tmp_path / "set.toml").write_text('[[datasets]]\n[[datasets.subsets]]\nimage_dir = "clips"\n')
    (tmp_path / "run.toml").write_text(
        '[model]\nfamily = "pocket"\n[[data]]\nclips = "clips"\nmasks = { source = "none" }\n'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


SLOW = ("families", "inspect", "import")  # they load every family, or what a family needs


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in COMMANDS]
)
def test_the_file_is_named_and_no_half_of_it_stays(
    project: Path, small_disk: Path, fill: Callable[[Path, int], None], name: str
) -> None:
    fill(small_disk, 0)
    out = str(small_disk / "out")
    asked = [word.replace("OUT", out).replace("DISK", str(small_disk)) for word in COMMANDS[name]]
    done = CliRunner().invoke(app, asked)
    error = done.exception
    assert isinstance(error, OSError | ValueError), (done.output, error)
    assert str(small_disk) in str(error)
    assert "No space left on device" in str(error) or "MiB" in str(error)
    left = [path.name for path in small_disk.rglob("*") if path.is_file()]
    assert left == ["filler"]


def film(path: Path, labels: torch.Tensor) -> None:
    with store.open_label_video(path, 8, {"face": 1}) as add:
        add(labels)
        add(labels)


def test_masks_of_a_full_disk(small_disk: Path, fill: Callable[[Path, int], None]) -> None:
    labels = torch.randint(0, 2, (900, 900), dtype=torch.uint8)
    fill(small_disk, 20_000)
    with pytest.raises(CannotWrite, match=r"a\.png: cannot be written .No space left on device"):
        store.write_labels(small_disk / "a.png", labels, {"face": 1})
    with pytest.raises(CannotWrite, match=r"a\.mkv: cannot be written .No space left on device"):
        film(small_disk / "a.mkv", labels)
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
