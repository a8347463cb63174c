"""Faults of data/cached/store.py: shared read-only, swept beside writers, on a full disk."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from frisket.data.cached.index import Index
from frisket.data.cached.status import Entries
from frisket.data.cached.store import Cache, CannotWrite, CorruptEntry

KEY, OTHER = "ab" * 20, "cd" * 20


def made(folder: Path) -> Cache:
    cache = Cache(folder)
    cache.store("latents", KEY, {"latents": torch.zeros(3)})
    return cache


def test_a_finished_cache_is_shared_read_only(
    tmp_path: Path,
    nobody: Callable[[], AbstractContextManager[None]],
    protect: Callable[[Path], None],
) -> None:
    folder = tmp_path / "cache"
    made(folder)
    protect(folder)
    with nobody():
        cache = Cache(folder)
        assert not cache.writable
        cache.sweep()
        with Index(folder) as index:
            entries = Entries(cache, index)
            assert entries.ready("latents", KEY)
            with pytest.raises(
                CannotWrite, match=r"it is read-only., and it lacks text/cdcd.*run\.cache"
            ):
                entries.ready("text", OTHER)
        assert torch.equal(cache.load("latents", KEY).tensors["latents"], torch.zeros(3))
        with pytest.raises(CannotWrite, match="cannot be written"):
            cache.store("latents", OTHER, {"latents": torch.zeros(3)})


def test_a_corrupt_entry_of_a_read_only_cache_says_whose_it_is_to_delete(
    tmp_path: Path,
    nobody: Callable[[], AbstractContextManager[None]],
    protect: Callable[[Path], None],
) -> None:
    folder = tmp_path / "cache"
    path = made(folder).path("latents", KEY)
    path.write_bytes(path.read_bytes()[:-1])
    protect(folder)
    with (
        nobody(),
        Index(folder) as index,
        pytest.raises(CannotWrite, match="let its owner delete it"),
    ):
        Entries(Cache(folder), index).ready("latents", KEY)


def test_a_folder_that_may_not_be_made_is_refused_at_once(
    tmp_path: Path, nobody: Callable[[], AbstractContextManager[None]]
) -> None:
    with nobody(), pytest.raises(CannotWrite, match=r"cache: cannot be written .*run\.cache"):
        Cache(tmp_path / "cache")


def test_a_full_disk_names_the_entry_and_leaves_no_half(
    small_disk: Path, fill: Callable[[Path, int], None]
) -> None:
    cache = made(small_disk / "cache")
    fill(small_disk, 64 << 10)
    with pytest.raises(CannotWrite, match=rf"{OTHER}.safetensors: .*No space left .*run\.cache"):
        cache.store("latents", OTHER, {"latents": torch.zeros(1 << 16)})
    assert torch.equal(cache.load("latents", KEY).tensors["latents"], torch.zeros(3))
    assert [path.name for path in (small_disk / "cache").rglob("*") if path.is_file()] == [
        f"{KEY}.safetensors"
    ]


def test_sweeping_beside_writers_fails_nobody(tmp_path: Path) -> None:
    cache, stop = Cache(tmp_path / "cache"), time.monotonic() + 1.0
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            while time.monotonic() < stop:
                cache.store("text", f"{number:040x}", {"x": torch.zeros(2)})
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    while time.monotonic() < stop:
        cache.sweep()
    for writer in writers:
        writer.join()
    assert not failed


def test_a_header_that_is_nested_without_end_is_a_corrupt_entry(tmp_path: Path) -> None:
    cache = made(tmp_path)
    head = b'{"__metadata__":' + b"[" * 100_000
    cache.path("latents", KEY).write_bytes(len(head).to_bytes(8, "little") + head)
    with pytest.raises(CorruptEntry, match="not whole"):
        cache.load("latents", KEY)


def test_a_link_in_place_of_a_half_written_file_keeps_its_target(tmp_path: Path) -> None:
    cache = made(tmp_path / "cache")
    precious = tmp_path / "precious"
    precious.touch()
    os.utime(precious, (1, 1))
    link = cache.path("latents", KEY).parent / ".x.tmp"
    link.symlink_to(precious)
    cache.sweep()
    assert precious.exists()
