"""All files of a data set that cannot be used, in one error."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from frisket.media.frames import BadMedia
from frisket.media.geometry import MaskMismatch
from frisket.media.images import read_orientation
from frisket.media.paths import IMAGES

NAMED = 20  # files an error names before it counts the rest


class BadClips(BadMedia):
    """Files of the data set that cannot be used; all were looked at, the first 20 are named."""


def stop_if_bad(bad: Mapping[str, str], refused: Sequence[ValueError]) -> None:
    """Raise what is wrong with files: `bad` says it by path.

    BadClips, or the one error of `refused` where nothing else is wrong.
    """
    if not bad:
        return
    if len(bad) == len(refused) == 1:
        raise refused[0]
    files: defaultdict[str, list[str]] = defaultdict(list)  # a wrong setting fails every file
    for path, text in bad.items():
        files[text].append(path)
    lines = [
        text if all(path in text for path in paths) else f"{_first(paths)}: {text}"
        for text, paths in files.items()
    ]
    more = f"\n  and {len(lines) - NAMED} more" if len(lines) > NAMED else ""
    count = f"{len(bad)} file{'s' * (len(bad) > 1)}"
    raise BadClips(
        f"{count} cannot be used; mend or remove them:\n  " + "\n  ".join(lines[:NAMED]) + more
    )


def _first(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def explain_mismatch(clip: Path, error: Exception) -> str:
    """What a mask of another aspect has to do with how its clip is turned; "" where nothing.

    BadMedia where the clip's EXIF cannot be read.
    """
    if not isinstance(error, MaskMismatch) or clip.suffix.lower() not in IMAGES or clip.is_dir():
        return ""
    orientation, _ = read_orientation(clip)
    if orientation < 5:
        return ""
    return (
        f"; EXIF (orientation {orientation}) turns this clip by 90 degrees, and its mask was likely"
        " made without: `frisket inspect --fix` turns the mask"
    )
