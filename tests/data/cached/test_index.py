"""The index of a cache: hashes that see every change, and a damaged file made anew."""

import os
import time
from itertools import pairwise
from pathlib import Path

from frisket.data.cached.index import Index


def old(path: Path, seconds: float = 60) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_change_is_seen_even_with_the_same_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "ü n.png"
    with Index(tmp_path) as index:
        seen = []
        for text in ("aaaa", "bbbb", "cccc"):
            file.write_text(text)
            os.utime(file, (1, 1))
            seen.append(index.content(file))
    assert all(a != b for a, b in pairwise(seen))


def test_content_and_not_the_name_counts(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("same")
    with Index(tmp_path) as index:
        assert index.content(tmp_path / "a.png") == index.content(tmp_path / "b.png")


def test_a_folder_of_frames_changes_with_any_of_them(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        (frames / f"{number}.png").write_text(str(number))
    with Index(tmp_path) as index:
        whole = index.content(frames)
        (frames / "1.png").rename(frames / "9.png")
        renamed = index.content(frames)
        (frames / "2.png").write_text("x")
        edited = index.content(frames)
    assert len({whole, renamed, edited}) == 3


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"this is no database, but long enough" * 99)
    with Index(tmp_path) as index:
        index.put("probe", "a", [1, None, 2.5])
    with Index(tmp_path) as index:
        assert index.get("probe", "a") == [1, None, 2.5]


def test_weights_are_told_apart_by_a_glance(tmp_path: Path) -> None:
    place = tmp_path / "vae"
    place.mkdir()
    (place / "model.safetensors").write_bytes(os.urandom(3 << 20))
    with Index(tmp_path) as index:
        one = index.fingerprint(place)
        assert index.fingerprint(place) == one
        with (place / "model.safetensors").open("r+b") as file:
            file.write(b"other")
        assert index.fingerprint(place) != one
