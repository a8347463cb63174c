"""The content of a file as it is seen: its bytes, and what is done to its colours."""

from pathlib import Path

from frisket.data.cached.index import Index
from frisket.media.images import RULE, colour_key
from frisket.media.paths import IMAGES, BadMedia


def hash_content(index: Index, path: Path) -> str:
    """The hash of a file (or folder of frames), with that of its colour conversion if it has one.

    Pictures in sRGB, and those that say nothing of their colours, keep the plain hash, and with it
    what was made of them before profiles were read.
    """
    content = index.content(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGES or path.is_dir():
        return content if not path.is_dir() else _hash_frames(index, path, content)
    return content + _recall_colours(index, path, content)


def _hash_frames(index: Index, folder: Path, content: str) -> str:
    """Frames come out of one program: what the first says is true of all."""
    first = min((path for path in folder.iterdir() if _is_picture(path)), default=None)
    return (
        content if first is None else content + _recall_colours(index, first, index.content(first))
    )


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in IMAGES and not path.name.startswith(".")


def _recall_colours(index: Index, path: Path, content: str) -> str:
    slot = f"{content}|{RULE}"
    known = index.get("colour", slot)
    if isinstance(known, str):
        return known
    try:
        conversion = colour_key(path)
    except BadMedia:
        return ""  # told where the file is used
    key = f"|{conversion}" if conversion else ""
    index.put("colour", slot, key)
    return key
