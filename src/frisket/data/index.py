"""What is already known of files and entries, so that an unchanged `prepare` reads none of them."""

import hashlib
import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR
from types import TracebackType
from typing import Any, Literal

Table = Literal["file", "probe", "facts", "entry"]

log = logging.getLogger(__name__)

YOUNG = 2_000_000_000  # ns: a file this fresh may still change without its time stamp changing
SAMPLES = 16  # pieces of a weights file that `fingerprint` looks at
PIECE = 1 << 16


class Index:
    """A small table on disk: content hashes by path, and facts by content.

    It only saves work: losing it costs one pass over the files. A damaged one is made anew.
    """

    def __init__(self, folder: Path) -> None:
        """Open (or make) the index of a cache folder."""
        self.file = Path(folder) / "index.sqlite"
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OSError(
                    f"cannot open {self.file} ({error}): is another program holding it, or is the"
                    " folder read-only?"
                ) from error
            log.warning(
                "%s is damaged (%s): made anew, every file is hashed once more", self.file, error
            )
            self._link.close()
            self.file.unlink()
            self._open()

    def _open(self) -> None:
        self._link = sqlite3.connect(self.file, timeout=60)
        # Losing the last rows in a power cut costs a second look at those files, no more.
        self._link.execute("PRAGMA synchronous=OFF")
        self._link.execute(
            "CREATE TABLE IF NOT EXISTS known (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID"
        )
        self._pending = 0

    def __enter__(self) -> "Index":
        """Use as a context manager: committed and closed at the end, whatever happens."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Keep what was learnt, even when `prepare` stops."""
        self._link.commit()
        self._link.close()

    def get(self, table: Table, name: str) -> Any:
        """A known value, or None."""
        row = self._link.execute(
            "SELECT value FROM known WHERE name = ?", (f"{table}|{name}",)
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, table: Table, name: str, value: Any) -> None:
        """Remember a JSON value."""
        self._link.execute(
            "REPLACE INTO known VALUES (?, ?)", (f"{table}|{name}", json.dumps(value))
        )
        self._pending += 1
        if (
            self._pending >= 64
        ):  # another `prepare` may share the cache: never hold the lock for long
            self.commit()

    def commit(self) -> None:
        """Write what is pending (and let go of the lock)."""
        self._link.commit()
        self._pending = 0

    def content(self, path: Path | str) -> str:
        """Hash of a file's bytes, or of a folder's files (names and bytes, hidden files left out).

        Read anew only if size, times or inode changed since the last time.
        """
        name = os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps `..`
        state = os.stat(name)  # noqa: PTH116 - twice as fast, and this is the hot path
        if S_ISDIR(state.st_mode):
            whole = hashlib.blake2b(digest_size=20)
            for child in sorted(os.listdir(name)):  # noqa: PTH208
                if not child.startswith("."):
                    whole.update(
                        f"{child}\0{self.content(f'{name}/{child}')}\0".encode(
                            "utf8", "surrogateescape"
                        )
                    )
            return whole.hexdigest()
        return self._remembered(name, state, "", _whole)

    def fingerprint(self, path: Path) -> str:
        """A quick hash of weights: names, sizes and sampled pieces of every file (not all)."""
        if path.is_file():
            return self._remembered(str(path.absolute()), path.stat(), "sampled|", _sampled)
        whole = hashlib.blake2b(digest_size=20)
        for file in sorted(
            p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")
        ):
            print_ = self._remembered(str(file.absolute()), file.stat(), "sampled|", _sampled)
            whole.update(f"{file.relative_to(path).as_posix()}\0{print_}\0".encode())
        return whole.hexdigest()

    def _remembered(self, name: str, state: os.stat_result, prefix: str, reader: Any) -> str:
        sign = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
        slot = prefix + name.encode("utf8", "surrogateescape").decode(
            "latin-1"
        )  # sqlite takes no surrogates
        known = self.get("file", slot)
        if known is not None and known[0] == sign:
            return str(known[1])
        found = str(reader(name))
        if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > YOUNG:
            self.put("file", slot, [sign, found])
        return found


def _whole(name: str) -> str:
    with Path(name).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()


def _sampled(name: str) -> str:
    size = Path(name).stat().st_size
    whole = hashlib.blake2b(str(size).encode(), digest_size=20)
    with Path(name).open("rb") as file:
        for offset in _offsets(size):
            file.seek(offset)
            whole.update(file.read(PIECE))
    return whole.hexdigest()


def _offsets(size: int) -> Iterator[int]:
    if size <= SAMPLES * PIECE:
        yield from range(0, size, PIECE)
        return
    for index in range(SAMPLES):
        yield index * (size - PIECE) // (SAMPLES - 1)
