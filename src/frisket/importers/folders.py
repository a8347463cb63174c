"""Folders that another trainer's configuration names: where they are, what lies in them."""

import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from frisket.importers.base import BadImport
from frisket.importers.files import locate
from frisket.importers.options import OptionTable, drop_unset
from frisket.media.captions import BadCaption, read_text
from frisket.media.paths import VIDEOS, is_media

FARTHEST = 20_000  # times that one set may be seen as often as another
LISTED_PLACES = 4  # places an error names
NO_CAPTIONS = ".none"  # no caption file ends so: data.caption is taken for every clip
SIDE_SUFFIXES = (".mask", "-masklabel", "-condlabel")


def find_folder(table: OptionTable, name: str, path: str | None = None) -> Path:
    """The folder that an option names, or `path` of it; absolute.

    Looked for as `files.locate` does, then from the folder around the configuration's own:
    trainers that keep their configurations in one count paths from there. Raises BadImport naming
    file, line, the path as written and what was tried.
    """
    folder = find_path(table, name, path)
    if not folder.is_dir():
        raise table.bad(name, f"{folder} is no folder")
    return folder


def find_file(table: OptionTable, name: str) -> Path:
    """As `find_folder`, for an option that names a file."""
    file = find_path(table, name)
    if not file.is_file():
        raise table.bad(name, f"{file} is no file")
    return file


def find_path(table: OptionTable, name: str, text: str | None = None) -> Path:
    """As `find_folder`, for an option that names either."""
    text = (table.text(name) if text is None else text).strip()
    if not text:
        raise table.bad(name, "a path is needed")
    folder = table.sheet.written.path.absolute().parent
    path, candidates = locate(text, folder)
    if path is None:
        path, more = locate(text, folder.parent)
        candidates = list(dict.fromkeys([*candidates, *more]))
    if path is None:
        listed_places = ", ".join(map(str, candidates[:LISTED_PLACES]))
        raise table.bad(name, f"{text!r} is not there; tried {listed_places}; correct the path")
    return Path(os.path.normpath(path))


def map_output(table: OptionTable, option: str, folder: str, name: str = "") -> str:
    """`run.output` of a folder, with `name` in it: below runs/ where it is of another machine.

    An absolute path is kept where the folder it would be made in is here. `option` gets the note.
    """
    path = "/".join(part for part in (folder.replace("\\", "/").rstrip("/"), name) if part)
    pure = PureWindowsPath(path)
    foreign = bool(pure.root or pure.drive) and not Path(path).parent.parent.is_dir()
    if not foreign:
        return path
    output = f"runs/{pure.name or 'imported'}"
    table.say(option, "mapped", f"is run.output = {output} here: {path} is of another machine")
    return output


@dataclass(frozen=True, slots=True)
class FolderScan:
    """What lies in a folder of clips, masks beside them not counted."""

    clips: int
    videos: int
    nested: int  # clips in sub-folders
    bare: int  # clips without a caption file
    lined: int  # captions of several lines


def scan_folder(folder: Path, *, skip: Collection[Path] = (), deep: bool = True) -> FolderScan:
    """Look at a folder of clips and the captions beside them.

    `skip` are folders that hold no clips (masks, references). Without `deep`, captions of clips in
    sub-folders are not counted: that trainer did not see them.
    """
    clips = list(list_clips(folder, skip))
    near = [path for path in clips if deep or path.parent == folder]
    captions = [path.with_suffix(".txt") for path in near]
    caption_files = [path for path in captions if path.is_file()]
    return FolderScan(
        clips=len(near),
        videos=sum(path.suffix.lower() in VIDEOS for path in near),
        nested=sum(path.parent != folder for path in clips),
        bare=len(captions) - len(caption_files),
        lined=sum(map(_has_several_lines, caption_files)),
    )


def list_clips(folder: Path, skip: Collection[Path] = ()) -> Iterator[Path]:
    """Images and videos below a folder, but for masks beside them and folders of `skip`."""
    skip = {path.resolve() for path in skip}
    for root, folders, files in os.walk(folder):
        parent = Path(root)
        folders[:] = [
            name
            for name in sorted(folders)
            if not name.startswith(".")
            and not name.endswith(".mask")
            and (parent / name).resolve() not in skip
        ]
        for name in files:
            path = parent / name
            if (
                is_media(path)
                and not name.startswith(".")
                and not path.stem.endswith(SIDE_SUFFIXES)
            ):
                yield path


def _has_several_lines(caption: Path) -> bool:
    return len([line for line in _read_caption(caption).splitlines() if line.strip()]) > 1


def count_captions_with(clips: Iterable[Path], suffix: str, words: str) -> int:
    """How many captions beside clips hold some words."""
    return sum(words in _read_caption(clip.with_suffix(suffix)) for clip in clips)


def _read_caption(path: Path) -> str:
    """A caption file; one that is not there is empty, as is one that `prepare` will refuse."""
    try:
        return read_text(path) if path.is_file() else ""
    except BadCaption:
        return ""


def read_plain_text(file: Path) -> str:
    """A text beside a configuration; BadImport where it is not UTF-8."""
    try:
        return read_text(file)
    except BadCaption as error:
        raise BadImport(str(error)) from error


def build_manifest(
    folder: Path,
    clips: Iterable[Path],
    caption: Callable[[Path], str | None],
    mask: Callable[[Path], Path | None] = lambda _: None,
) -> tuple[dict[str, Any], ...]:
    """Lines of a manifest of clips, with what `caption` and `mask` give for each of them."""
    lines = []
    for clip in clips:
        name = clip.relative_to(folder).with_suffix("").as_posix()
        mask_file = mask(clip)
        extra = drop_unset(caption=caption(clip), mask=str(mask_file) if mask_file else None)
        lines.append({"path": str(clip), "name": name, **extra})
    return tuple(lines)


def find_whole_repeats(rates: Sequence[float | int]) -> list[int]:
    """Whole numbers in the ratio of `rates`, in the least epoch that is not shorter than theirs.

    Each is right to a thousandth, however far the rates lie apart: [0.5, 1] gives [1, 2],
    [1, 0.0022] gives [455, 1]. An epoch here is `longer` times one of theirs, so what counts epochs
    is to be divided by it, or counted in steps. A rate of 0 gives 0, which no data set can have.
    BadImport for rates that lie further apart than FARTHEST.
    """
    used = [rate for rate in rates if rate > 0]
    if not used:
        return [0 for _ in rates]
    if max(used) > FARTHEST * min(used):
        raise BadImport(
            f"one data set is seen {max(used):g} times in an epoch and another {min(used):g} times:"
            " too rarely to be mixed in; leave that one out, or let it be seen more often"
        )
    scale = next(n for n in range(1, sys.maxsize) if all(map(_is_whole, (n * r for r in used))))
    return [round(rate * scale) for rate in rates]


def _is_whole(count: float | int) -> bool:
    """Whether a number of repeats is whole, to a thousandth of itself."""
    return round(count) > 0 and abs(count - round(count)) <= count / 1000


def longer(rates: Sequence[float | int], repeats: Sequence[int]) -> int:
    """How many of their epochs an epoch of `find_whole_repeats` is."""
    rate, count = max(zip(rates, repeats, strict=True), default=(1, 1))
    return round(count / rate) if rate else 1
