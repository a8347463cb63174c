"""Thumbnails and overlays kept on disk by what they are of; a failure is kept as well."""

import hashlib
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from frisket.disk.atomic import replacing

RULE = 1  # of how pictures are drawn; goes into their keys
SIZES = (128, 192, 256, 384, 512, 768, 1024, 1536, 2048)  # pixels of the longer side
MOST_FAILURES = 4096  # failures remembered
AT_ONCE = 4  # pictures decoded at a time


class NoPicture(ValueError):
    """A picture that cannot be shown; says why, and is not tried again until its file changes."""


@dataclass(frozen=True, slots=True)
class SmallPicture:
    """A picture as it is sent; `etag` is that of its content's source."""

    body: bytes
    etag: str


@dataclass(slots=True)
class PictureCache:
    """Pictures below one folder: nothing there is missed."""

    folder: Path
    _faults: dict[str, str] = field(default_factory=dict)
    _slots: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(AT_ONCE))

    def look_up(self, key: str) -> SmallPicture | None:
        """The picture of a key, None where it is to be made; NoPicture where that failed."""
        if key in self._faults:
            raise NoPicture(self._faults[key])
        try:
            return SmallPicture(self._locate(key).read_bytes(), key)
        except OSError:
            return None

    def make(self, key: str, draw: Callable[[], bytes]) -> SmallPicture:
        """Draw a picture and keep it. NoPicture says what is wrong with its file."""
        with self._slots:
            picture = self.look_up(key)  # another request may have drawn it meanwhile
            if picture is not None:
                return picture
            try:
                body = draw()
            except (ValueError, OSError) as error:
                raise self._fail(key, error) from error
        return self.keep(key, body)

    async def fetch(self, key: str, draw: Callable[[], Awaitable[bytes]]) -> SmallPicture:
        """The same for what another process draws."""
        try:
            body = await draw()
        except (ValueError, OSError) as error:
            raise self._fail(key, error) from error
        return self.keep(key, body)

    def keep(self, key: str, body: bytes) -> SmallPicture:
        """Keep a picture; a disk that is full costs no more than the keeping."""
        try:
            with replacing(self._locate(key)) as draft:
                draft.write_bytes(body)
        except OSError:
            pass
        return SmallPicture(body, key)

    def _fail(self, key: str, error: Exception) -> NoPicture:
        if len(self._faults) >= MOST_FAILURES:
            self._faults.clear()
        self._faults[key] = str(error)
        return NoPicture(str(error))

    def _locate(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.webp"


def make_key(kind: str, longest: int, *paths: Path, more: object = None) -> str:
    """A key of files as they are now; a file that is not there has a key of its own."""
    stamps = []
    for path in paths:
        try:
            stat = path.stat()
            stamps.append([str(path), stat.st_mtime_ns, stat.st_size])
        except OSError:
            stamps.append([str(path), None, None])
    text = json.dumps([RULE, kind, longest, stamps, more], default=str, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def choose_size(least: int) -> int:
    """The smallest size kept that is at least `wanted`."""
    return next((size for size in SIZES if size >= least), SIZES[-1])
