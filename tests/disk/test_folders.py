"""Folders that are whole or absent, and files under a second name."""

import errno
from pathlib import Path

import pytest

from frisket.disk import folders
from frisket.disk.atomic import CannotWrite
from frisket.disk.folders import replace_folder, share_file


def fill(path: Path, text: str) -> None:
    with replace_folder(path) as draft:
        assert draft.parent == path.parent
        (draft / "a.txt").write_text(text)


def test_a_folder_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "run" / "model"
    fill(path, "first")
    (path / "left-over").touch()
    fill(path, "second")
    assert [file.name for file in path.iterdir()] == ["a.txt"]
    assert (path / "a.txt").read_text() == "second"
    assert [file.name for file in path.parent.iterdir()] == ["model"]


def test_what_fails_leaves_the_earlier_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    fill(path, "first")
    with pytest.raises(CannotWrite, match="model: cannot be written"), replace_folder(path):
        raise OSError(errno.ENOSPC, "no space")
    with pytest.raises(KeyboardInterrupt), replace_folder(path):
        raise KeyboardInterrupt
    assert (path / "a.txt").read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_a_file_gets_a_second_name_or_a_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, link = tmp_path / "weights", tmp_path / "link"
    source.write_bytes(b"weights")
    link.symlink_to(source)
    assert share_file(link, tmp_path / "second") is False
    assert (tmp_path / "second").samefile(source)
    assert not (tmp_path / "second").is_symlink()

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another disk")

    monkeypatch.setattr(folders.os, "link", refuse)
    assert share_file(link, tmp_path / "third") is True
    assert not (tmp_path / "third").samefile(source)
    assert (tmp_path / "third").read_bytes() == b"weights"
