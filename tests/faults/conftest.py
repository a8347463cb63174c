"""Hardship for real: a user without rights, a disk of one mebibyte, files that may not grow."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest


@contextmanager
def nobody() -> Iterator[None]:
    """As a user who may not write everywhere, for root too."""
    me = os.geteuid()
    try:
        if me == 0:
            os.seteuid(65534)
        yield
    finally:
        os.seteuid(me)


@pytest.fixture(name="nobody")
def _nobody(tmp_path: Path) -> Callable[[], AbstractContextManager[None]]:
    """`with nobody():` inside which files of this test are read, not written."""
    if not hasattr(os, "geteuid"):
        pytest.skip("there are no such rights here")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(folder.stat().st_mode | 0o555)
    return nobody


def protect(folder: Path) -> None:
    """Nobody may write below the folder any more."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


@pytest.fixture(name="protect")
def _protect() -> Iterator[Callable[[Path], None]]:
    protected: list[Path] = []

    def use(folder: Path) -> None:
        protected.append(folder)
        protect(folder)

    yield use
    for folder in protected:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own of one mebibyte; skipped where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here (not root, or a closed container)")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def fill() -> Callable[[Path, int], None]:
    """Fill a disk until so many bytes are left."""

    def use(disk: Path, left: int) -> None:
        free = shutil.disk_usage(disk).free
        (disk / "filler").write_bytes(b"\0" * max(0, free - left))

    return use
