"""The boundary to foreign decoders and parsers: what they raise or warn of names its file."""

import errno
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TextIO

from frisket.media.paths import BadMedia

log = logging.getLogger(__name__)

PIXELS = 210_000_000  # of a picture or a frame: the largest cameras and phones have 201 million
FRAMES = 10_000  # of an animated picture; videos have no limit, they are read frame by frame
MOVING = 2**33  # pixels of all frames of an animated picture: 4,000 frames of 1920 x 1080
LONGEST_REASON = 200  # characters of a foreign message that are worth repeating
BROKEN = "it is broken or cut short ({reason}); copy it again from its source, or remove it"

# What these say is of the machine, not of the file, whoever raises them.
_OF_THE_MACHINE = {errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.ENOSPC}


@contextmanager
def decoding(path: Path, broken: str = BROKEN, bad: type[ValueError] = BadMedia) -> Iterator[None]:
    """Turn whatever a foreign decoder raises within the block into an error that names `path`.

    There is no list of classes: Pillow, FFmpeg, Arrow and tarfile raise IndexError, RuntimeError,
    MemoryError and worse on damaged files. `broken` says what is wrong and what to do, with
    {reason} for what the decoder says; `bad` is the class that is raised. Errors of our own classes
    (`BadMedia`), which name their file, and what is no Exception (Ctrl-C) pass.
    """
    try:
        yield
    except MemoryError as error:
        raise bad(
            f"{path}: needs more memory than there is left to be read; make it smaller, or close"
            " other programs"
        ) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] == "frisket":
            raise
        if _is_of_machine(error):
            reason = getattr(error, "strerror", None) or error
            raise bad(
                f"{path}: cannot be read ({reason}); check that it is there, that you may read it,"
                " and its disk"
            ) from error
        raise bad(f"{path}: {broken.format(reason=reason_of(error))}") from error


def _is_of_machine(error: Exception) -> bool:
    number = getattr(error, "errno", None)
    is_decoders = type(error).__module__ == "builtins"  # FFmpeg says EIO and EPERM of damaged files
    return (
        isinstance(error, OSError)
        and number is not None
        and (is_decoders or number in _OF_THE_MACHINE)
    )


def reason_of(error: BaseException) -> str:
    """What a foreign error says, in one short line; its class where the words alone say little."""
    message = " ".join(str(getattr(error, "strerror", None) or error).split())
    message = message if len(message) <= LONGEST_REASON else f"{message[:LONGEST_REASON]}..."
    if isinstance(error, OSError | SyntaxError | ValueError) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def check_pixels(path: Path, width: int, height: int) -> None:
    """Raise BadMedia for a picture or frame larger than PIXELS, as its header tells."""
    if width * height > PIXELS:
        raise BadMedia(
            f"{path}: is {width} x {height}, {width * height / 1e6:.0f} million pixels, and at most"
            f" {PIXELS // 10**6} million are read; scale it down"
        )


def check_frames(path: Path, frames: int, width: int, height: int) -> None:
    """Raise BadMedia for an animated picture of more than FRAMES frames or MOVING pixels."""
    if frames > FRAMES:
        raise BadMedia(
            f"{path}: is an animated picture of more than {FRAMES} frames, the most that are read;"
            " make it a video (.mp4), which has no such limit"
        )
    if frames * width * height > MOVING:
        raise BadMedia(
            f"{path}: is an animated picture of {frames} frames of {width} x {height},"
            f" {frames * width * height / 1e9:.1f} billion pixels, and at most {MOVING / 1e9:.1f}"
            " billion are read; make it a video (.mp4), which has no such limit"
        )


_known: set[str] = set()


def show_warnings() -> None:
    """From now on, log what Pillow warns of with the file it read; each text once.

    Without this a warning names a line of Pillow's code, or, where all warnings are ignored,
    nothing. It ends nothing, also where Python was told to make errors of warnings.
    """
    warnings.filterwarnings("always", module=r"PIL\b")
    warnings.showwarning = _show


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    path, text = _find_file_read(), f"{message}"
    if path is None:
        stream = file or sys.stderr
        stream.write(warnings.formatwarning(message, category, filename, lineno, line))
    elif text not in _known:
        _known.add(text)
        log.warning("%s: %s (other files of which the same is true are not named)", path, text)


def _find_file_read() -> Path | None:
    """The file that the media room is reading: the `path` of the nearest caller in it."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        path = frame.f_locals.get("path")
        is_ours = frame.f_globals.get("__name__", "").startswith("frisket.media.")
        if is_ours and isinstance(path, Path):
            return path
        frame = frame.f_back
    return None
