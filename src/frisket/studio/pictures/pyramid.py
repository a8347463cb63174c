"""Levels of one picture, each half as large as the one before, held in memory up to a limit."""

import hashlib
import io
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TILE = 512  # pixels a side of a tile, at every level
FIRST = 1024  # longer side up to which a level is shown whole, as the first thing seen
QUALITY = 95  # of JPEG, with full colour resolution
LIMIT = 320 << 20  # bytes of decoded pixels that are kept

Pixels = NDArray[np.uint8]


class NoSuchTile(LookupError):
    """A level or a tile that the picture has not."""


@dataclass(frozen=True, slots=True)
class PictureSize:
    """Pixels of a picture as it is seen (turned upright), and how many levels it is cut into.

    `version` changes with the file, so that a tile's address may be kept for ever.
    """

    width: int
    height: int
    levels: int
    version: str
    tile: int = TILE


def measure_picture(path: Path) -> PictureSize:
    """Size and version of a still, by its header; BadMedia where it cannot be read."""
    from frisket.media.images import open_image, size_of  # noqa: PLC0415 - OpenCV, when asked for

    with open_image(path) as image:
        height, width = size_of(image)
    levels = 1
    while max(width, height) >> (levels - 1) > FIRST:
        levels += 1
    return PictureSize(width, height, levels, stamp_picture(path))


def stamp_picture(path: Path) -> str:
    """A short text that changes when the file does (its time and size)."""
    stat = path.stat()
    text = f"{path}|{stat.st_mtime_ns}|{stat.st_size}"
    return hashlib.blake2b(text.encode("utf8", "surrogateescape"), digest_size=8).hexdigest()


class Pyramids:
    """Decoded levels of the pictures looked at last, the oldest dropped beyond `limit` bytes."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._levels: OrderedDict[tuple[Path, str, int], Pixels] = OrderedDict()
        self._lock = threading.Lock()
        self._decoding = threading.Lock()  # one large picture in memory at a time

    def encode_level(self, path: Path, level: int, *, exact: bool) -> bytes:
        """A whole level: PNG where `exact`, else JPEG. NoSuchTile, BadMedia."""
        return _encode(self._find_level(path, level), exact)

    def encode_tile(self, path: Path, level: int, column: int, row: int, *, exact: bool) -> bytes:
        """One tile of a level, smaller at the right and lower border. NoSuchTile, BadMedia."""
        pixels = self._find_level(path, level)
        tile = pixels[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]
        if not tile.size:
            raise NoSuchTile(f"{path.name}: level {level} has no tile {column}, {row}")
        return _encode(tile, exact)

    def _find_level(self, path: Path, level: int) -> Pixels:
        size = measure_picture(path)
        if not 0 <= level < size.levels:
            raise NoSuchTile(f"{path.name}: has {size.levels} levels, and no level {level}")
        key = (path, size.version, level)
        if (pixels := self._look_up(key)) is not None:
            return pixels
        with self._decoding:  # another request may have decoded it while this one waited
            if (pixels := self._look_up(key)) is None:
                pixels = self._make_level(path, size, level)
                self._keep(key, pixels)
        return pixels

    def _make_level(self, path: Path, size: PictureSize, level: int) -> Pixels:
        for finer in range(level - 1, -1, -1):
            if (pixels := self._look_up((path, size.version, finer))) is not None:
                return _shrink(pixels, size, level)
        return _shrink(_decode(path, level), size, level)

    def _look_up(self, key: tuple[Path, str, int]) -> Pixels | None:
        with self._lock:
            if (pixels := self._levels.get(key)) is not None:
                self._levels.move_to_end(key)
            return pixels

    def _keep(self, key: tuple[Path, str, int], pixels: Pixels) -> None:
        with self._lock:
            self._levels[key] = pixels
            held_bytes = sum(level.nbytes for level in self._levels.values())
            while held_bytes > self._limit and len(self._levels) > 1:
                held_bytes -= self._levels.popitem(last=False)[1].nbytes


def _decode(path: Path, level: int) -> Pixels:
    """The picture at the level's size or above; a JPEG is decoded small where that is enough."""
    from frisket.media.images import open_image, read  # noqa: PLC0415 - OpenCV, when asked for

    with open_image(path) as image:
        if level and image.format in ("JPEG", "MPO"):
            # The decoder's own halving: the first view of an 8K photograph in a tenth of the time.
            image.draft("RGB", (image.width >> level, image.height >> level))
        pixels: Pixels = read(image, path, "rgb")
    return pixels


def _shrink(pixels: Pixels, size: PictureSize, level: int) -> Pixels:
    width, height = max(-(-size.width >> level), 1), max(-(-size.height >> level), 1)
    if pixels.shape[:2] == (height, width):
        return pixels
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
    return np.asarray(small)


def _encode(pixels: Pixels, exact: bool) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if exact:
        image.save(stream, format="PNG", compress_level=1)
    else:
        image.save(stream, format="JPEG", quality=QUALITY, subsampling=0)
    return stream.getvalue()
