"""Media files as paths: suffixes, order, frame folders, the error for bad ones."""

import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from pathlib import Path

from frisket.disk.atomic import replacing
from frisket.media.stills.readers import lacking

__all__ = [
    "IMAGES",
    "LEGEND",
    "SOFT",
    "VIDEOS",
    "BadMedia",
    "TwoFiles",
    "collecting",
    "expand_home",
    "frames_in",
    "is_media",
    "natural",
    "plain",
    "refuse",
    "replacing",
]

IMAGES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"),
    *(".jfif", ".jpe", ".jif", ".pjpeg", ".pjp", ".mpo", ".apng", ".dib", ".avifs"),
    *(".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".heic", ".heif", ".hif", ".jxl"),
)
VIDEOS = (
    *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts"),
    *(".wmv", ".flv", ".3gp", ".3g2", ".3gpp", ".asf", ".divx", ".dv", ".f4v", ".m2t", ".m2ts"),
    *(".m2v", ".mj2", ".mjpeg", ".mjpg", ".mp4v", ".mpe", ".mpeg4", ".mpv", ".mxf", ".nut"),
    *(".ogm", ".ogv", ".qt", ".tod", ".vob", ".y4m"),
)

_MEDIA = frozenset(IMAGES + VIDEOS)
LEGEND, SOFT = "legend.json", "soft"  # in a folder of label maps that `frisket masks` made


class BadMedia(ValueError):
    """A file that is not the image, video or mask it should be; names it, the fault and the fix."""


class TwoFiles(ValueError):
    """Two clips, or two masks, that claim the same name; names both."""


class BadName(ValueError):
    """A file whose name is no text, so that nothing could be written about it; names it escaped."""


_refusals: ContextVar[list[tuple[str, ValueError]] | None] = ContextVar("refusals", default=None)


@contextmanager
def collecting() -> Iterator[list[tuple[str, ValueError]]]:
    """Within the block, what `refuse` is given is listed, with the name of its clip, not raised.

    For those who want to hear of every fault at once; a training run stops at the first.
    """
    errors: list[tuple[str, ValueError]] = []
    token = _refusals.set(errors)
    try:
        yield errors
    finally:
        _refusals.reset(token)


def refuse(clip: str, error: ValueError) -> None:
    """Raise the fault of one clip's files, or list it within `collecting`: its file is left out."""
    errors = _refusals.get()
    if errors is None:
        raise error
    errors.append((clip, error))


def expand_home(path: Path) -> Path:
    """The path with `~` written out; as it is, where nobody knows whose home is meant."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def is_media(path: Path) -> bool:
    """Whether the suffix, in any case, is one of an image or a video that can be read here.

    Not so are HEIC and JPEG XL without the packages that read them (`stills.readers`).
    """
    suffix = path.suffix.lower()
    return suffix in _MEDIA and lacking(suffix) is None


def plain(name: str) -> str:
    """A name in NFC, so that one typed on macOS (NFD) and one from Linux compare equal."""
    return unicodedata.normalize("NFC", name)


def is_text(name: str | Path) -> bool:
    """Whether a name can be written down: file systems take bytes that are no UTF-8."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def escape(name: str | Path) -> str:
    """A name as it can be shown: bytes that are no UTF-8 are written with a backslash."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def natural(name: str) -> list[str | int]:
    """Sort key under which `frame2` comes before `frame10`."""
    # The split alternates text and digits, so keys always compare str with str, int with int.
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", plain(name))]


def frames_in(folder: Path) -> list[Path]:
    """The images of a frame folder in natural order; BadMedia where it holds none."""
    paths = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGES and not path.name.startswith(".")
    ]
    if not paths:
        raise BadMedia(
            f"{folder}: a folder of frames without any image; put 000.png, 001.png, ... into it"
            " or remove it"
        )
    paths.sort(key=lambda path: natural(path.name))
    for before, after in pairwise(paths):
        if plain(before.stem) == plain(after.stem):
            raise BadMedia(
                f"{folder}: {before.name} and {after.name} are both frame {after.stem!r}; keep one"
            )
    return paths
