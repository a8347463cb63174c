"""Checkpoints: whole or absent, whatever happens while they are written."""

from pathlib import Path

import pytest
import torch

from frisket.training.checkpoint import CheckpointError, Checkpoints, read, same_run


def write(path: Path) -> None:
    path.write_bytes(b"adapter")


def saved(store: Checkpoints, step: int) -> Path:
    state = {"optimizer": {"m": torch.full((3,), float(step))}}
    return store.save(step, state, {"run": {"rank": 4}}, write)


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


def test_a_save_that_fails_leaves_the_one_before_and_says_so(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path, keep=1)
    before = saved(store, 5)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    with pytest.raises(CheckpointError, match=r"step 10 .*No space left.*untouched \(1 there\)"):
        store.save(10, {}, {}, full)
    assert store.all() == [before]
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000005"]


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


def test_another_run_is_refused_with_both_values(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="rank: 4 then, 8 now"):
        same_run({"rank": 4, "lr": 1.0}, {"rank": 8, "lr": 1.0}, tmp_path)
    same_run({"rank": 4}, {"rank": 4}, tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match=r"could not be written to .*file"):
        saved(Checkpoints(tmp_path / "file" / "checkpoints"), 1)
