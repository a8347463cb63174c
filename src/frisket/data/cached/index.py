"""What is already known of files and entries, so that an unchanged `prepare` reads none of them."""

import contextlib
import hashlib
import json
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from stat import S_ISDIR
from types import TracebackType
from typing import Any, Literal, TypeVar

from frisket.disk.atomic import may_write
from frisket.disk.untrusted import cut

T = TypeVar("T")
IndexTable = Literal["file", "probe", "colour", "facts", "entry"]

log = logging.getLogger(__name__)
_left: set[Path] = set()  # files it was said of that they cannot be used

YOUNG = 2_000_000_000  # ns: a file this fresh may still change without its time stamp changing
SAMPLES = 16  # pieces of a weights file that `fingerprint` looks at
PIECE = 1 << 16
BATCH = 64  # rows learnt between two writes
PATIENCE = 60.0  # seconds to wait for another program's lock
# SQLite's codes for what is not the file's own fault.
OUTSIDE = (
    *(sqlite3.SQLITE_PERM, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM),
    *(sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
    *(sqlite3.SQLITE_AUTH, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOLFS),
)


class Index:
    """A small table on disk: content hashes by path, and facts by content.

    It only saves work: losing it costs one pass over the files. So nothing that befalls it stops a
    command. A damaged one, found at whatever use, is made anew. One that cannot be read or written
    (full disk, read-only folder, locked by another) is gone on without: what is learnt is kept for
    this process. Both are said once.
    """

    def __init__(self, folder: Path) -> None:
        """Open (or make) the index of a cache folder."""
        self.file = Path(folder) / "index.sqlite"
        self._link: sqlite3.Connection | None = None
        self._learnt: dict[str, str] = {}  # not on disk yet
        self._alone = False  # whether the file is gone on without
        self._attempt(lambda _: None)

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
        self.commit()
        self._close()

    def get(self, table: IndexTable, name: str) -> Any:
        """A known value, or None."""
        slot = _name_slot(table, name)
        if slot in self._learnt:
            return json.loads(self._learnt[slot])
        return self._attempt(lambda link: _read(link, slot))

    def put(self, table: IndexTable, name: str, value: Any) -> None:
        """Remember a JSON value."""
        self._learnt[_name_slot(table, name)] = json.dumps(value)
        # Another `prepare` may share the cache: rows are few and the lock is never held for long.
        if len(self._learnt) >= BATCH:
            self.commit()

    def commit(self) -> None:
        """Write what is pending."""
        if not self._learnt or self._alone or not may_write(self.file.parent):
            return
        rows = [(slot, _add_checksum(slot, text)) for slot, text in self._learnt.items()]
        if self._attempt(lambda link: _write(link, rows)):
            self._learnt.clear()

    def _attempt(self, use: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `use` returns, on a file made anew if need be; None where there is no file."""
        for _ in range(2):
            if self._alone:
                return None
            try:
                return use(self._open())
            except (sqlite3.Error, ValueError, OSError, RecursionError) as error:
                self._close()
                if _is_damage(error, self.file):
                    self._remove(error)
                else:
                    self._leave(error)
        self._leave(OSError("damaged again as soon as it was made anew"))
        return None

    def _open(self) -> sqlite3.Connection:
        if self._link is None:
            self._link = sqlite3.connect(self.file, timeout=PATIENCE)
            self._link.text_factory = bytes  # damaged text is for us to find
            # Losing the last rows in a power cut costs a second look at those files, no more.
            self._link.execute("PRAGMA synchronous=OFF")
            self._link.execute(
                "CREATE TABLE IF NOT EXISTS learnt (name TEXT PRIMARY KEY, value TEXT)"
                " WITHOUT ROWID"
            )
            # Else rows out of order are never met, and never found again.
            (state,) = self._link.execute("PRAGMA integrity_check(1)").fetchone()
            if state != b"ok":
                raise ValueError(_cut(state))
        return self._link

    def _close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(sqlite3.Error):
                link.close()

    def _remove(self, why: Exception) -> None:
        """Clear a damaged file away, so that the next use makes a new one."""
        try:
            for end in ("", "-journal", "-wal", "-shm"):
                self.file.with_name(self.file.name + end).unlink(missing_ok=True)
        except OSError as error:
            self._leave(error)
            return
        log.warning(
            "%s was damaged (%s): made anew, every file is hashed once more", self.file, why
        )

    def _leave(self, why: Exception) -> None:
        self._alone = True
        level = logging.DEBUG if self.file in _left else logging.WARNING
        _left.add(self.file)
        log.log(
            level,
            "%s cannot be used (%s): going on without it; what it holds only saves time, and the"
            " next run hashes the files once more",
            *(self.file, why),
        )

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
        return self._recall(name, state, "", _hash_whole)

    def fingerprint(self, path: Path) -> str:
        """A quick hash of weights: names, sizes and sampled pieces of every file (not all)."""
        if path.is_file():
            return self._recall(str(path.absolute()), path.stat(), "sampled|", _hash_samples)
        whole = hashlib.blake2b(digest_size=20)
        for file in sorted(
            p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")
        ):
            print_ = self._recall(str(file.absolute()), file.stat(), "sampled|", _hash_samples)
            whole.update(f"{file.relative_to(path).as_posix()}\0{print_}\0".encode())
        return whole.hexdigest()

    def _recall(self, name: str, state: os.stat_result, prefix: str, reader: Any) -> str:
        sign = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
        slot = prefix + name.encode("utf8", "surrogateescape").decode(
            "latin-1"
        )  # sqlite takes no surrogates
        known = self.get("file", slot)
        if isinstance(known, list) and len(known) == 2 and known[0] == sign:
            return str(known[1])
        content = str(reader(name))
        if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > YOUNG:
            self.put("file", slot, [sign, content])
        return content


def _cut(state: bytes) -> str:
    return cut(state.decode(errors="replace").replace("\n", " "), 80)


def _is_damage(error: Exception, file: Path) -> bool:
    """Whether the file itself is at fault, and not the disk, the folder or another program."""
    if isinstance(error, OSError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None or code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return True
    if code == sqlite3.SQLITE_READONLY:  # where we may write, a byte of its header says so
        return may_write(file.parent) and may_write(file)
    return code & 0xFF not in OUTSIDE


def _add_checksum(slot: str, text: str) -> str:
    """A value with a sum over name and value before it: a flipped bit is damage, not news."""
    return f"{zlib.crc32(f'{slot}|{text}'.encode()):08x}{text}"


def _name_slot(table: IndexTable, name: str) -> str:
    """The key of a row; SQLite takes no surrogates, which names that are not UTF-8 hold."""
    return f"{table}|{name}".encode("utf8", "backslashreplace").decode("utf8")


def _read(link: sqlite3.Connection, slot: str) -> Any:
    row = link.execute("SELECT value FROM learnt WHERE name = ?", (slot,)).fetchone()
    if row is None:
        return None
    text = row[0].decode() if isinstance(row[0], bytes) else ""
    if text != _add_checksum(slot, text[8:]):
        raise ValueError("a value is not as it was written")
    return json.loads(text[8:])


def _write(link: sqlite3.Connection, rows: Sequence[tuple[str, str]]) -> bool:
    link.executemany("REPLACE INTO learnt VALUES (?, ?)", rows)
    link.commit()
    return True


def _hash_whole(name: str) -> str:
    with Path(name).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()


def _hash_samples(name: str) -> str:
    size = Path(name).stat().st_size
    whole = hashlib.blake2b(str(size).encode(), digest_size=20)
    with Path(name).open("rb") as file:
        for offset in _list_offsets(size):
            file.seek(offset)
            whole.update(file.read(PIECE))
    return whole.hexdigest()


def _list_offsets(size: int) -> Iterator[int]:
    if size <= SAMPLES * PIECE:
        yield from range(0, size, PIECE)
        return
    for index in range(SAMPLES):
        yield index * (size - PIECE) // (SAMPLES - 1)
