"""Clips that a trainer takes one by one, as lines of a manifest of ours."""

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, cut, parse_json, show
from frisket.importers.files import locate
from frisket.importers.folders import find_file, scan_folder
from frisket.importers.options import OptionTable
from frisket.media.captions import BadCaption, read_text
from frisket.media.frames import probe
from frisket.media.paths import BadMedia, plain

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif")  # of kohya's trainers
VIDEOS = (".mp4", ".webm", ".avi", ".mkv", ".mov", ".flv", ".wmv", ".m4v", ".mpg", ".mpeg")

ManifestEntry = dict[str, Any]  # a line of a manifest


def list_directly(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of a folder, not of those in it, by name; kohya's trainers look no deeper."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def holds_only(folder: Path, clips: Sequence[Path], skip: Iterable[Path] = ()) -> bool:
    """Whether Frisket, which looks into sub-folders too, would find the same clips."""
    return scan_folder(folder, skip=list(skip)).clips == len(clips)


def pair_masks(
    clips: Iterable[Path], folder: Path | None, suffixes: Sequence[str]
) -> list[ManifestEntry]:
    """Lines for clips, with the masks of the same stem directly in a folder."""
    masks = {} if folder is None else {plain(p.stem): p for p in list_directly(folder, suffixes)}
    lines: list[ManifestEntry] = []
    for clip in clips:
        line = {"path": str(clip), "name": plain(clip.stem)}
        if plain(clip.stem) in masks:
            line["mask"] = str(masks[plain(clip.stem)])
        lines.append(line)
    return lines


def read_objects(table: OptionTable, name: str) -> tuple[Path, list[tuple[str, Mapping[str, Any]]]]:
    """The file an option names, and what it holds with the place of each: lines, or one table.

    A `.json` file is a table of path to entry, as sd-scripts keeps captions; each entry gets its
    key as `image_path`. Raises BadImport naming file and line.
    """
    file = find_file(table, name)
    try:
        text = read_text(file)
    except BadCaption as error:
        raise table.bad(name, str(error)) from error
    entries = list(
        _parse_table(table, name, file, text)
        if file.suffix.lower() == ".json"
        else _parse_lines(table, name, file, text)
    )
    if not entries:
        raise table.bad(name, f"{file} lists no clip")
    return file, entries


def _parse_lines(
    table: OptionTable, name: str, file: Path, text: str
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


def _parse_table(
    table: OptionTable, name: str, file: Path, text: str
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        tree = parse_json(text)
    except BadText as error:
        raise table.bad(name, f"{file}: not JSON ({error})") from error
    if not isinstance(tree, dict) or not all(isinstance(entry, dict) for entry in tree.values()):
        raise table.bad(name, f"{file}: a table of path to caption is needed")
    yield from ((f"{file}: {key}", {"image_path": key, **entry}) for key, entry in tree.items())


def find_clip(table: OptionTable, name: str, at: str, text: Any, base: Path) -> Path:
    """The file that an entry of such a list names, from `base`; BadImport where it is not there."""
    if not isinstance(text, str) or not text:
        raise table.bad(name, f"{at}: a path in quotes is needed, it has {show(text)}")
    clip, candidates = locate(text, base)
    if clip is None and not Path(text).suffix:  # sd-scripts keeps stems
        clip = next(
            (candidate for end in IMAGES if (candidate := base / f"{text}{end}").exists()), None
        )
    if clip is None:
        places = cut(", ".join(map(str, candidates[:3])))
        raise table.bad(name, f"{at}: {show(text)} is not there; tried {places}")
    return clip


def name_lines(lines: list[ManifestEntry]) -> tuple[ManifestEntry, ...]:
    """Lines whose clips have names of their own: the stem, numbered where several share it."""
    counts: dict[str, int] = {}
    for line in lines:
        name = str(line.setdefault("name", plain(Path(line["path"]).stem)))
        counts[name] = counts.get(name, 0) + 1
        if counts[name] > 1:
            line["name"] = f"{name}~{counts[name]}"
    return tuple(lines)


def has_alpha(picture: Path) -> bool:
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
