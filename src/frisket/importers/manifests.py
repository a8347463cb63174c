"""Clips that a trainer takes one by one, as lines of a manifest of ours."""

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, cut, parse_json, show
from frisket.importers.files import place
from frisket.importers.folders import file_at, look
from frisket.importers.options import Table
from frisket.media.captions import BadCaption, read_text
from frisket.media.frames import probe
from frisket.media.paths import BadMedia, plain

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif")  # of kohya's trainers
VIDEOS = (".mp4", ".webm", ".avi", ".mkv", ".mov", ".flv", ".wmv", ".m4v", ".mpg", ".mpeg")

Entry = dict[str, Any]  # a line of a manifest


def directly_in(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of a folder, not of those in it, by name; kohya's trainers look no deeper."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def just_these(folder: Path, taken: Sequence[Path], skip: Iterable[Path] = ()) -> bool:
    """Whether Frisket, which looks into sub-folders too, would find the same clips."""
    return look(folder, skip=list(skip)).clips == len(taken)


def masked_by(clips: Iterable[Path], folder: Path | None, suffixes: Sequence[str]) -> list[Entry]:
    """Lines for clips, with the masks of the same stem directly in a folder."""
    masks = {} if folder is None else {plain(p.stem): p for p in directly_in(folder, suffixes)}
    lines: list[Entry] = []
    for clip in clips:
        line = {"path": str(clip), "name": plain(clip.stem)}
        if plain(clip.stem) in masks:
            line["mask"] = str(masks[plain(clip.stem)])
        lines.append(line)
    return lines


def objects_in(table: Table, name: str) -> tuple[Path, list[tuple[str, Mapping[str, Any]]]]:
    """The file an option names, and what it holds with the place of each: lines, or one table.

    A `.json` file is a table of path to entry, as sd-scripts keeps captions; each entry gets its
    key as `image_path`. Raises BadLayout naming file and line.
    """
    file = file_at(table, name)
    try:
        text = read_text(file)
    except BadCaption as error:
        raise table.bad(name, str(error)) from error
    found = list(
        _of_json(table, name, file, text)
        if file.suffix.lower() == ".json"
        else _of_lines(table, name, file, text)
    )
    if not found:
        raise table.bad(name, f"{file} lists no clip")
    return file, found


def _of_lines(
    table: Table, name: str, file: Path, text: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        at = f"{file} line {number}"
        try:
            entry = parse_json(line)
        except BadText as error:
            raise table.bad(name, f"{at}: not JSON ({error}); one object a line") from error
        if not isinstance(entry, dict):
            raise table.bad(name, f"{at}: a JSON object is needed")
        yield at, entry


def _of_json(
    table: Table, name: str, file: Path, text: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        tree = parse_json(text)
    except BadText as error:
        raise table.bad(name, f"{file}: not JSON ({error})") from error
    if not isinstance(tree, dict) or not all(isinstance(each, dict) for each in tree.values()):
        raise table.bad(name, f"{file}: a table of path to caption is needed")
    yield from ((f"{file}: {key}", {"image_path": key, **entry}) for key, entry in tree.items())


def clip_at(table: Table, name: str, at: str, written: Any, base: Path) -> Path:
    """The file that an entry of such a list names, from `base`; BadLayout where it is not there."""
    if not isinstance(written, str) or not written:
        raise table.bad(name, f"{at}: a path in quotes is needed, it has {show(written)}")
    found, tried = place(written, base)
    if found is None and not Path(written).suffix:  # sd-scripts keeps stems
        found = next((each for end in IMAGES if (each := base / f"{written}{end}").exists()), None)
    if found is None:
        places = cut(", ".join(map(str, tried[:3])))
        raise table.bad(name, f"{at}: {show(written)} is not there; tried {places}")
    return found


def named(lines: list[Entry]) -> tuple[Entry, ...]:
    """Lines whose clips have names of their own: the stem, numbered where several share it."""
    seen: dict[str, int] = {}
    for line in lines:
        name = str(line.setdefault("name", plain(Path(line["path"]).stem)))
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            line["name"] = f"{name}~{seen[name]}"
    return tuple(lines)


def see_through(picture: Path) -> bool:
    """Whether a picture has an alpha channel."""
    try:
        return probe(picture).alpha
    except BadMedia:
        return False  # told by name when the clips are prepared


def keeps_alpha(cache: Path) -> bool:
    """Whether cached latents of sd-scripts (`.npz`) hold alpha masks."""
    try:
        with zipfile.ZipFile(cache) as inside:
            return any(name.startswith("alpha_mask") for name in inside.namelist())
    except (OSError, zipfile.BadZipFile):
        return False
