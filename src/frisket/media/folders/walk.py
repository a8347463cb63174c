"""Walks a folder of clips or masks: what is one, what is passed by, what cannot be named."""

from collections.abc import Callable, Iterator
from pathlib import Path

from frisket.media.folders.left_out import Leftovers, is_foreign
from frisket.media.paths import BadName, escape, is_media, is_text, plain, refuse


class ClipsNotFound(ValueError):
    """A clip folder that is missing or empty; names it and what is looked for."""


def walk_media(
    folder: Path,
    *,
    skip: frozenset[Path],
    leaf: Callable[[Path], bool],
    left: Leftovers,
    trail: tuple[Path, ...] = (),
) -> Iterator[Path]:
    """Media files, and folders that are one mask (`leaf`), below a folder; links are followed.

    Hidden entries and the folders of `skip` (resolved) are left out, as is a link to a folder it
    lies in. What cannot be listed, read or named goes to `refuse`, what is no media to `left`.
    """
    real = folder.resolve()
    if real in skip or real in trail:
        return
    for entry in _list_entries(folder, left):
        if entry.is_dir():
            if is_foreign(entry):
                left.folders.append(entry)
            elif leaf(entry):
                yield entry
            else:
                yield from walk_media(entry, skip=skip, leaf=leaf, left=left, trail=(*trail, real))
        elif is_media(entry):
            if not entry.exists():
                message = f"{entry}: a link to nothing ({entry.readlink()}); remove it"
                refuse(plain(entry.stem), ClipsNotFound(message))
                continue
            yield entry
        else:
            left.add(entry)


def _list_entries(folder: Path, left: Leftovers) -> Iterator[Path]:
    """What lies in a folder, sorted, hidden entries left out; hidden bins are counted."""
    try:
        entries = sorted(folder.iterdir(), key=lambda path: plain(path.name))
    except OSError as error:
        message = f"{folder}: this folder cannot be listed ({error.strerror}); mend or remove it"
        refuse(plain(folder.name), ClipsNotFound(message))
        return
    for entry in entries:
        if is_text(entry.name):
            if not entry.name.startswith("."):
                yield entry
            elif is_foreign(entry) and entry.is_dir():
                left.folders.append(entry)
        elif is_media(entry) or (entry.is_dir() and any(map(is_media, entry.rglob("*")))):
            refuse(escape(entry.name), _refuse_name(entry))


def _refuse_name(path: Path) -> BadName:
    return BadName(
        f"{escape(path)}: its name is not UTF-8, so no list or page could name it; rename it (of"
        " Latin-1 names: convmv -f latin1 -t utf8 -r --notest FOLDER)"
    )
