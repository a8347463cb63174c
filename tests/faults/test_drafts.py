"""disk/atomic.py: what cannot be written is named, and what the dead left is swept."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from frisket.disk import atomic
from frisket.disk.atomic import CannotWrite, NotPermitted, draft_name, replacing, sweep, writing
from frisket.media.frames import write_image, write_video

KILLED = """
import sys, time
from pathlib import Path
from frisket.disk.atomic import replacing
with replacing(Path(sys.argv[1])) as draft:
    draft.write_text("half")
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _as_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_swept", set())


def writer(path: Path) -> subprocess.Popen[str]:
    """A process that is in the middle of writing a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_a_killed_writer_s_draft_goes_and_a_living_one_s_stays(tmp_path: Path) -> None:
    living, dead = writer(tmp_path / "a.txt"), writer(tmp_path / "b.txt")
    dead.kill()
    dead.wait()
    assert dead.stdout is not None
    dead.stdout.close()
    try:
        assert len(list(tmp_path.glob(".*.part"))) == 2
        with replacing(tmp_path / "c.txt") as draft:
            draft.write_text("whole")
        assert len(list(tmp_path.glob(".*.part"))) == 1
    finally:
        living.send_signal(signal.SIGINT)  # it cleans up behind itself
        living.communicate()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.txt"]


def test_of_other_hosts_and_versions_only_age_tells(tmp_path: Path) -> None:
    other = f".00000000-{os.getpid()}-01234567.part"
    older = f".{'0123456789abcdef' * 2}.part"
    foreign = (".mine.part", "film.part", ".00000000-x-01234567.part", ".0123.part")
    for name in (other, older, *foreign):
        (tmp_path / name).touch()
    assert sweep(tmp_path) == 0
    for name in (other, older, *foreign):
        os.utime(tmp_path / name, (1, 1))
    atomic._swept.clear()
    assert sweep(tmp_path) == 2
    assert {path.name for path in tmp_path.iterdir()} == {*foreign}


def test_folders_that_are_not_whole_are_swept_and_links_are_not_followed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    name = draft_name().replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    (tmp_path / name).mkdir()
    (tmp_path / name / "inside").touch()
    (tmp_path / name / "link").symlink_to(precious)
    assert sweep(tmp_path) == 1
    assert (precious / "file").exists()


def test_names_are_short_enough_for_any_file(tmp_path: Path) -> None:
    with replacing(tmp_path / ("x" * 255)) as draft:
        draft.write_text("whole")
    assert (tmp_path / ("x" * 255)).read_text() == "whole"
    with (
        pytest.raises(CannotWrite, match="give it a shorter name"),
        replacing(tmp_path / ("x" * 256)) as draft,
    ):
        draft.write_text("whole")


def picture(path: Path) -> None:
    write_image(path, torch.randint(0, 255, (500, 500, 3), dtype=torch.uint8))


def film(path: Path) -> None:
    write_video(path, torch.randint(0, 255, (8, 256, 256, 3), dtype=torch.uint8), 8, lossless=True)


def text(path: Path) -> None:
    with replacing(path) as draft:
        draft.write_text("x" * 600_000)


def tensors(path: Path) -> None:
    with replacing(path) as draft:
        save_file({"x": torch.zeros(200_000)}, draft)


def state(path: Path) -> None:
    with replacing(path) as draft:
        torch.save({"x": torch.zeros(200_000)}, draft)


def pillow(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (500, 500, 3), np.uint8)
    with replacing(path) as draft:
        Image.fromarray(noise).save(draft, format="PNG")


WRITERS = {
    "a.png": picture,
    "a.mkv": film,
    "a.txt": text,
    "a.safetensors": tensors,
    "a.pt": state,
    "b.png": pillow,
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_said_of_the_file_whatever_writes_it(
    small_disk: Path, fill: Callable[[Path, int], None], name: str
) -> None:
    path = small_disk / name
    path.write_text("before")
    fill(small_disk, 100_000)
    with pytest.raises(CannotWrite) as refused:
        WRITERS[name](path)
    said = str(refused.value)
    assert said.startswith(f"{path}: cannot be written (No space left on device); free some space")
    assert said.endswith("nothing half-written is left, what was finished before stays")
    assert path.read_text() == "before"
    assert sorted(each.name for each in small_disk.iterdir()) == sorted([name, "filler"])


@pytest.mark.parametrize("name", ["a.txt", "b.png"])
def test_a_limit_on_the_size_of_files_is_said(tmp_path: Path, name: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(CannotWrite, match=r"File too large.*ulimit -f"):
            WRITERS[name](tmp_path / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


def test_rights_are_said_and_are_a_permission_error_too(
    tmp_path: Path,
    nobody: Callable[[], AbstractContextManager[None]],
    protect: Callable[[Path], None],
) -> None:
    (tmp_path / "out").mkdir()
    protect(tmp_path / "out")
    with nobody():
        with pytest.raises(NotPermitted, match=r"a\.txt: cannot be written .*choose a folder"):
            text(tmp_path / "out" / "a.txt")
        with pytest.raises(PermissionError, match=r"its folder cannot be made"):
            text(tmp_path / "out" / "deeper" / "a.txt")


def test_the_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.png"), writing(tmp_path / "a.png"):
        (tmp_path / "gone.png").read_bytes()
    with pytest.raises(ValueError, match="not mine"), writing(tmp_path / "a.png"):
        raise ValueError("not mine")


def test_a_folder_of_that_name_or_a_file_on_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(CannotWrite, match="a folder has that name"):
        text(tmp_path / "a.txt")
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match="its folder cannot be made"):
        text(tmp_path / "file" / "b.txt")


def test_looking_for_drafts_costs_one_look_a_folder(tmp_path: Path) -> None:
    for number in range(3000):
        (tmp_path / f"{number}.txt").touch()
    began = time.process_time()
    for number in range(200):
        with replacing(tmp_path / f"{number}.txt") as draft:
            draft.write_text("x")
    assert time.process_time() - began < 1.0
