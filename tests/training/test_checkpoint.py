"""Checkpoints: whole or absent, whatever happens while they are written."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from frisket.training.checkpoint import CheckpointError, Checkpoints, read


def saved(store: Checkpoints, step: int) -> Path:
    state = {"optimizer": {"m": torch.full((3,), float(step))}}
    return store.save(step, state, {"run": {"rank": 4}})


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    state, manifest = read(saved(Checkpoints(tmp_path), 7))
    assert torch.equal(state["optimizer"]["m"], torch.full((3,), 7.0))
    assert manifest == {"step": 7, "run": {"rank": 4}}


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 15, 20):
        saved(store, step)
    assert [path.name for path in store.all()] == ["step-00000015", "step-00000020"]
    newest = store.newest()
    assert newest is not None
    assert newest.name == "step-00000020"


FULL = """
import resource, signal, sys, torch
from frisket.training.checkpoint import Checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
Checkpoints(sys.argv[1], keep=1).save(10, {"m": torch.zeros(100_000)}, {})
"""


def test_a_save_that_fails_leaves_the_one_before_and_says_so(tmp_path: Path) -> None:
    """A file size limit is what a full disk looks like from inside."""
    store = Checkpoints(tmp_path, keep=1)
    before = saved(store, 5)
    script = FULL.replace("sys.argv[1]", f"__import__('pathlib').Path({str(tmp_path)!r})")
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    said = ended.stderr.splitlines()[-1]
    assert "CheckpointError: the checkpoint of step 10 could not be written" in said
    assert "untouched (1 there)" in said
    assert store.all() == [before]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


def test_the_same_step_saved_twice_never_takes_the_first_away(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=1)
    first = saved(store, 5)
    (first / "lora.safetensors").write_bytes(b"adapter")
    inode = first.stat().st_ino
    assert saved(store, 5).stat().st_ino == inode
    assert (first / "lora.safetensors").is_file()


def test_a_killed_writer_is_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    before = saved(store, 5)
    partial = tmp_path / ".partial-00000010-1"
    partial.mkdir()
    (partial / "state.pt").write_bytes(b"half")
    (tmp_path / "step-00000099").mkdir()  # no manifest: somebody's empty folder
    assert store.newest() == before
    saved(store, 15)
    assert not partial.exists()


def test_a_damaged_checkpoint_names_itself_and_the_way_out(tmp_path: Path) -> None:
    folder = saved(Checkpoints(tmp_path), 5)
    (folder / "state.pt").write_bytes((folder / "state.pt").read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=r"step-00000005 cannot be read.*Delete that folder"):
        read(folder)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"could not be written to .*file"):
        saved(Checkpoints(tmp_path / "file" / "checkpoints"), 1)
