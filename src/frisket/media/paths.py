"""Media files as paths: suffixes, order, frame folders, safe writing, the error for bad ones."""

import re
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
VIDEOS = (
    *(".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts"),
    *(".wmv", ".flv", ".3gp"),
)


class BadMedia(ValueError):
    """A file that is not the image, video or mask it should be; names it, the fault and the fix."""


def is_media(path: Path) -> bool:
    """Whether the suffix, in any case, is one of an image or a video."""
    return path.suffix.lower() in IMAGES + VIDEOS


def plain(name: str) -> str:
    """A name in NFC, so that one typed on macOS (NFD) and one from Linux compare equal."""
    return unicodedata.normalize("NFC", name)


def natural(name: str) -> list[str | int]:
    """Sort key under which `frame2` comes before `frame10`."""
    # The split alternates text and digits, so keys always compare str with str, int with int.
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", plain(name))]


def frames_in(folder: Path) -> list[Path]:
    """The images of a frame folder in natural order; BadMedia where it holds none."""
    found = [
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGES and not path.name.startswith(".")
    ]
    if not found:
        raise BadMedia(
            f"{folder}: a folder of frames without any image; put 000.png, 001.png, ... into it"
            " or remove it"
        )
    found.sort(key=lambda path: natural(path.name))
    for before, after in pairwise(found):
        if plain(before.stem) == plain(after.stem):
            raise BadMedia(
                f"{folder}: {before.name} and {after.name} are both frame {after.stem!r}; keep one"
            )
    return found


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` when the block ends well.

    Whatever happens, no half file is left under either name. OSError names the folder.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise type(error)(f"{path}: its folder cannot be made ({error.strerror})") from error
    # Short and free of the target's own name: that may already have all 255 bytes.
    draft = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        yield draft
        draft.replace(path)
    except PermissionError as error:
        raise PermissionError(
            f"{path}: cannot be written ({error.strerror}); choose a folder you may write to"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
