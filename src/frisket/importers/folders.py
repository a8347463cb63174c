"""Folders that another trainer's configuration names: where they are, what lies in them."""

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from frisket.importers.base import BadLayout
from frisket.importers.files import place
from frisket.importers.options import Table, filled
from frisket.media.captions import BadCaption, read_text
from frisket.media.paths import VIDEOS, is_media

FARTHEST = 20_000  # times that one set may be seen as often as another
SHOWN = 4  # places an error names
NO_CAPTIONS = ".none"  # no caption file ends so: data.caption is taken for every clip
ASIDE = (".mask", "-masklabel", "-condlabel")


def folder_at(table: Table, name: str, written: str | None = None) -> Path:
    """The folder that an option names, or `written` of it; absolute.

    Looked for as `files.place` does, then from the folder around the configuration's own:
    trainers that keep their configurations in one count paths from there. Raises BadLayout naming
    file, line, the path as written and what was tried.
    """
    found = place_at(table, name, written)
    if not found.is_dir():
        raise table.bad(name, f"{found} is no folder")
    return found


def file_at(table: Table, name: str) -> Path:
    """As `folder_at`, for an option that names a file."""
    found = place_at(table, name)
    if not found.is_file():
        raise table.bad(name, f"{found} is no file")
    return found


def place_at(table: Table, name: str, written: str | None = None) -> Path:
    """As `folder_at`, for an option that names either."""
    written = (table.text(name) if written is None else written).strip()
    if not written:
        raise table.bad(name, "a path is needed")
    here = table.sheet.written.path.absolute().parent
    found, tried = place(written, here)
    if found is None:
        found, more = place(written, here.parent)
        tried = list(dict.fromkeys([*tried, *more]))
    if found is None:
        shown = ", ".join(map(str, tried[:SHOWN]))
        raise table.bad(name, f"{written!r} is not there; tried {shown}; correct the path")
    return Path(os.path.normpath(found))


def output_of(table: Table, option: str, folder: str, name: str = "") -> str:
    """`run.output` of a folder, with `name` in it: below runs/ where it is of another machine.

    An absolute path is kept where the folder it would be made in is here. `option` gets the note.
    """
    written = "/".join(part for part in (folder.replace("\\", "/").rstrip("/"), name) if part)
    pure = PureWindowsPath(written)
    foreign = bool(pure.root or pure.drive) and not Path(written).parent.parent.is_dir()
    if not foreign:
        return written
    own = f"runs/{pure.name or 'imported'}"
    table.say(option, "mapped", f"is run.output = {own} here: {written} is of another machine")
    return own


@dataclass(frozen=True, slots=True)
class Look:
    """What lies in a folder of clips, masks beside them not counted."""

    clips: int
    videos: int
    nested: int  # clips in sub-folders
    bare: int  # clips without a caption file
    lined: int  # captions of several lines


def look(folder: Path, *, skip: Collection[Path] = (), deep: bool = True) -> Look:
    """Look at a folder of clips and the captions beside them.

    `skip` are folders that hold no clips (masks, references). Without `deep`, captions of clips in
    sub-folders are not counted: that trainer did not see them.
    """
    clips = list(clips_in(folder, skip))
    near = [path for path in clips if deep or path.parent == folder]
    captions = [path.with_suffix(".txt") for path in near]
    written = [path for path in captions if path.is_file()]
    return Look(
        clips=len(near),
        videos=sum(path.suffix.lower() in VIDEOS for path in near),
        nested=sum(path.parent != folder for path in clips),
        bare=len(captions) - len(written),
        lined=sum(map(_several, written)),
    )


def clips_in(folder: Path, skip: Collection[Path] = ()) -> Iterator[Path]:
    """Images and videos below a folder, but for masks beside them and folders of `skip`."""
    skip = {path.resolve() for path in skip}
    for root, folders, files in os.walk(folder):
        here = Path(root)
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".")
            and not name.endswith(".mask")
            and (here / name).resolve() not in skip
        ]
        for name in files:
            path = here / name
            if is_media(path) and not name.startswith(".") and not path.stem.endswith(ASIDE):
                yield path


def _several(caption: Path) -> bool:
    return len([line for line in _caption(caption).splitlines() if line.strip()]) > 1


def holding(clips: Iterable[Path], suffix: str, words: str) -> int:
    """How many captions beside clips hold some words."""
    return sum(words in _caption(clip.with_suffix(suffix)) for clip in clips)


def _caption(path: Path) -> str:
    """A caption file; one that is not there is empty, as is one that `prepare` will refuse."""
    try:
        return read_text(path) if path.is_file() else ""
    except BadCaption:
        return ""


def text_of(file: Path) -> str:
    """A text beside a configuration; BadLayout where it is not UTF-8."""
    try:
        return read_text(file)
    except BadCaption as error:
        raise BadLayout(str(error)) from error


def manifest_of(
    folder: Path,
    clips: Iterable[Path],
    caption: Callable[[Path], str | None],
    mask: Callable[[Path], Path | None] = lambda _: None,
) -> tuple[dict[str, Any], ...]:
    """Lines of a manifest of clips, with what `caption` and `mask` give for each of them."""
    lines = []
    for clip in clips:
        name = clip.relative_to(folder).with_suffix("").as_posix()
        beside = mask(clip)
        extra = filled(caption=caption(clip), mask=str(beside) if beside else None)
        lines.append({"path": str(clip), "name": name, **extra})
    return tuple(lines)


def whole_repeats(rates: Sequence[float | int]) -> list[int]:
    """Whole numbers in the ratio of `rates`, in the least epoch that is not shorter than theirs.

    Each is right to a thousandth, however far the rates lie apart: [0.5, 1] gives [1, 2],
    [1, 0.0022] gives [455, 1]. An epoch here is `longer` times one of theirs, so what counts epochs
    is to be divided by it, or counted in steps. A rate of 0 gives 0, which no data set can have.
    BadLayout for rates that lie further apart than FARTHEST.
    """
    seen = [rate for rate in rates if rate > 0]
    if not seen:
        return [0 for _ in rates]
    if max(seen) > FARTHEST * min(seen):
        raise BadLayout(
            f"one data set is seen {max(seen):g} times in an epoch and another {min(seen):g} times:"
            " too rarely to be mixed in; leave that one out, or let it be seen more often"
        )
    scale = next(n for n in range(1, sys.maxsize) if all(map(_is_whole, (n * r for r in seen))))
    return [round(rate * scale) for rate in rates]


def _is_whole(count: float | int) -> bool:
    """Whether a number of repeats is whole, to a thousandth of itself."""
    return round(count) > 0 and abs(count - round(count)) <= count / 1000


def longer(rates: Sequence[float | int], repeats: Sequence[int]) -> int:
    """How many of their epochs an epoch of `whole_repeats` is."""
    rate, count = max(zip(rates, repeats, strict=True), default=(1, 1))
    return round(count / rate) if rate else 1
