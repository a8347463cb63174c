"""Faults of data/cached/index.py at every use: a damaged file is made anew, others are skipped."""

import logging
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from frisket.data.cached.index import Index


def filled(folder: Path, rows: int = 500) -> Path:
    with Index(folder) as index:
        for number in range(rows):
            index.put("probe", f"clip {number}", [number, "x" * 40])
    return folder / "index.sqlite"


def test_what_is_learnt_is_known_before_and_after_it_is_written(tmp_path: Path) -> None:
    with Index(tmp_path) as index:
        index.put("facts", "a", {"ü": 1})
        assert index.get("facts", "a") == {"ü": 1}
        index.commit()
        assert index.get("facts", "a") == {"ü": 1}
        assert index.get("probe", "a") is None
    with Index(tmp_path) as index:
        assert index.get("facts", "a") == {"ü": 1}


@pytest.mark.parametrize("place", [0, 20, 100, 4096, 5000, 9000, 20000])
def test_damage_found_at_use_is_mended_and_said_once(tmp_path: Path, place: int, caplog) -> None:
    file = filled(tmp_path)
    whole = bytearray(file.read_bytes())
    whole[place : place + 2000] = b"\xc3" * len(whole[place : place + 2000])
    file.write_bytes(whole)
    with caplog.at_level(logging.WARNING), Index(tmp_path) as index:
        for number in range(500):
            assert index.get("probe", f"clip {number}") in (None, [number, "x" * 40])
        index.put("probe", "new", 1)
    assert sum("made anew" in record.message for record in caplog.records) <= 1
    assert not any("cannot be used" in record.message for record in caplog.records)
    caplog.clear()
    with Index(tmp_path) as index:
        assert index.get("probe", "new") == 1
    assert not caplog.records


def test_a_flipped_letter_of_a_value_is_damage_and_not_news(tmp_path: Path, caplog) -> None:
    file = filled(tmp_path, 1)
    link = sqlite3.connect(file)
    link.execute("UPDATE learnt SET value = replace(value, 'xxxx', 'xxyx')")
    link.commit()
    link.close()
    with Index(tmp_path) as index:
        assert index.get("probe", "clip 0") is None
    assert "not as it was written" in caplog.text


@pytest.mark.parametrize("schema", ["CREATE TABLE learnt (a)", "CREATE VIEW learnt AS SELECT 1"])
def test_a_database_of_something_else_is_made_anew(tmp_path: Path, schema: str) -> None:
    link = sqlite3.connect(tmp_path / "index.sqlite")
    link.execute(schema)
    link.commit()
    link.close()
    with Index(tmp_path) as index:
        index.put("facts", "a", 1)
    with Index(tmp_path) as index:
        assert index.get("facts", "a") == 1


def test_a_read_only_index_is_read_and_left_alone(
    tmp_path: Path,
    nobody: Callable[[], AbstractContextManager[None]],
    protect: Callable[[Path], None],
    caplog,
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    before = filled(folder, 3).read_bytes()
    protect(folder)
    with nobody(), Index(folder) as index:
        for number in range(300):
            index.put("facts", f"{number}", number)
        assert index.get("facts", "7") == 7
        assert index.get("probe", "clip 2") == [2, "x" * 40]
    assert (folder / "index.sqlite").read_bytes() == before
    assert not caplog.records


def test_where_none_can_be_made_the_work_goes_on(
    tmp_path: Path,
    nobody: Callable[[], AbstractContextManager[None]],
    protect: Callable[[Path], None],
    caplog,
) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    protect(folder)
    for _ in range(2):
        with nobody(), Index(folder) as index:
            index.put("facts", "a", 1)
            assert index.get("facts", "a") == 1
    assert [record.message.count("going on without it") for record in caplog.records] == [1]


def test_a_full_disk_stops_nothing(
    small_disk: Path, fill: Callable[[Path, int], None], caplog
) -> None:
    with Index(small_disk) as index:
        index.put("facts", "before", 1)
        index.commit()
        fill(small_disk, 4096)
        for number in range(500):
            index.put("probe", f"{number}", "y" * 200)
        assert index.get("probe", "3") == "y" * 200
        index.commit()
    assert caplog.text.count("going on without it") == 1
    (small_disk / "filler").unlink()
    with Index(small_disk) as index:
        assert index.get("facts", "before") == 1


def test_a_file_that_another_program_holds_is_waited_for_and_then_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    monkeypatch.setattr("frisket.data.cached.index.PATIENCE", 0.1)
    file = filled(tmp_path, 1)
    holder = sqlite3.connect(file)
    holder.execute("BEGIN EXCLUSIVE")
    with Index(tmp_path) as index:
        index.put("facts", "a", 1)
        assert index.get("facts", "a") == 1
    assert "locked" in caplog.text
    holder.rollback()
    holder.close()
    with Index(tmp_path) as index:
        assert index.get("probe", "clip 0") == [0, "x" * 40]
