"""Which number a region has in the masks of a data set, and how a region gets or changes its name.

A set keeps the numbers in its configuration (`levels`, `legend`), else in the `legend.json` of its
mask folder, as `frisket masks` does.
"""

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomlkit

from frisket.config.data import preset
from frisket.config.label_map import read_legend
from frisket.config.load import ConfigError, load
from frisket.disk.atomic import replacing
from frisket.media.paths import LEGEND, is_media
from frisket.studio.regions.table import edit_config, open_table
from frisket.studio.workspace import ClipSet

BACKGROUND = "background"
TOP = 255
LENGTH = 64  # letters of a name
FORBIDDEN = set('/\\:\0"<>|?*')

NumberPlace = Literal["levels", "legend", "file"]


class BadRegion(ValueError):
    """A region that cannot be added or renamed so; says why and what would do."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Region to number, and where it is written down."""

    place: NumberPlace
    table: dict[str, int]


def find_numbers(clip_set: ClipSet, document: Mapping[str, Any] | None = None) -> Numbers:
    """The numbers of a set; BadRegion where its masks are of a form that has none."""
    if document is None and clip_set.config:
        document = _parse(clip_set.config)
    masks = _find_masks(clip_set, document) if document else None
    if isinstance(masks, dict):
        for place in ("levels", "legend"):
            if table := masks.get(place):
                return Numbers(place, _read_numbers(table, place))
        if masks.get("source", "folder") not in ("folder", "sidecar", "listed"):
            raise BadRegion(_refuse_form(str(masks.get("source"))))
    elif masks in ("alpha", "none"):
        raise BadRegion(_refuse_form(str(masks)))
    path = find_legend(clip_set)
    if path.is_file():
        return Numbers("file", read_legend(path))
    if _holds_masks(path.parent) and not _has_several_regions(document):
        raise BadRegion(
            f"{path.parent}: its masks are grey, of one region, and a legend would make other"
            " masks of them; paint label maps into a folder of their own"
        )
    return Numbers("file", {})


def _holds_masks(folder: Path) -> bool:
    return folder.is_dir() and any(is_media(path) for path in folder.iterdir())


def _has_several_regions(document: Mapping[str, Any] | None) -> bool:
    """Whether [regions] names more than one, which is how masks without a legend are label maps."""
    regions = preset((document or {}).get("regions", {}))
    return isinstance(regions, dict) and len(set(regions) - {BACKGROUND}) > 1


def find_legend(clip_set: ClipSet) -> Path:
    """Where the set's own `legend.json` is, or would be."""
    return (clip_set.masks or clip_set.clips) / LEGEND


def add_region(clip_set: ClipSet, name: str, weight: float) -> int:
    """Give a new region a number and a weight; its number.

    BadRegion for a name that cannot be one, one that is there, and a table that is full.
    """
    check_name(name)
    if clip_set.config is None:
        numbers = find_numbers(clip_set)
        number = _choose_number(numbers, name)
        _write_legend(find_legend(clip_set), {**numbers.table, name: number})
        return number
    with edit_config(clip_set.config) as document:
        numbers = find_numbers(clip_set, document)
        number = _choose_number(numbers, name)
        # The weight first: a legend that names a region without a weight is refused everywhere.
        open_table(document).setdefault(name, weight)
        if numbers.place != "file":
            _find_masks(clip_set, document)[numbers.place][name] = number
    if numbers.place == "file":
        _write_legend(find_legend(clip_set), {**numbers.table, name: number})
    return number


def rename_region(clip_set: ClipSet, name: str, new: str) -> None:
    """Another name for the same number: masks stay as they are, byte for byte.

    BadRegion as `add_region`; ConfigError, with nothing changed, where something else in the
    configuration still goes by the old name.
    """
    check_name(new)
    numbers = find_numbers(clip_set)
    if name not in numbers.table or name == BACKGROUND:
        raise BadRegion(f"there is no region {name!r} to rename; reload the page")
    _check_free(numbers, new)
    legend = find_legend(clip_set)
    before = {
        path: path.read_bytes() for path in (legend, clip_set.config) if path and path.is_file()
    }
    try:
        if numbers.place == "file":
            table = {new if key == name else key: number for key, number in numbers.table.items()}
            _write_legend(legend, table)
        if clip_set.config is not None:
            with edit_config(clip_set.config) as document:
                _rename_key(open_table(document), name, new)
                if numbers.place != "file":
                    _rename_key(_find_masks(clip_set, document)[numbers.place], name, new)
            load(clip_set.config)
    except (ConfigError, OSError):
        _restore_files(before)
        raise


def _restore_files(before: Mapping[Path, bytes]) -> None:
    for path, content in before.items():
        with replacing(path) as draft:
            draft.write_bytes(content)


def check_name(name: str) -> None:
    """BadRegion for what cannot be a region's name: it may become a folder, and a key."""
    wrong = (
        "is no name; use letters"
        if not name.strip() or name != name.strip()
        else "is what no region covers, number 0; use another name"
        if name == BACKGROUND
        else f"is longer than {LENGTH} letters; shorten it"
        if len(name) > LENGTH
        else "cannot be the name of a folder; use letters"
        if name.startswith(".") or set(name) & FORBIDDEN or not name.isprintable()
        else ""
    )
    if wrong:
        raise BadRegion(f"regions: {name!r} {wrong}")


def _choose_number(numbers: Numbers, name: str) -> int:
    _check_free(numbers, name)
    used = {0, *numbers.table.values()}
    if numbers.place == "levels":
        # Levels are told apart by nearness, so the new one goes where there is most room.
        room = {level: min(abs(level - other) for other in used) for level in range(1, TOP + 1)}
        level = max(room, key=lambda level: room[level])
        if room[level] < 2:
            raise BadRegion(f"{len(numbers.table)} grey levels leave no room for {name!r}")
        return level
    number = max(used) + 1
    if number > TOP:
        raise BadRegion(f"{name!r} would have the number {number}, but a mask ends at {TOP}")
    return number


def _check_free(numbers: Numbers, name: str) -> None:
    if name in numbers.table:
        raise BadRegion(f"regions: {name!r} is there already")


def _refuse_form(source: str) -> str:
    return (
        f'masks = "{source}" has no numbers for regions; make a folder of label maps'
        " (`frisket masks`), and give `masks` its name"
    )


def _parse(path: Path) -> tomlkit.TOMLDocument:
    return tomlkit.parse(path.read_text(encoding="utf-8"))


def _find_masks(clip_set: ClipSet, document: Mapping[str, Any]) -> Any:
    """`masks` of the set's own `[[data]]`, as written."""
    data = document.get("data", [])
    tables = [data] if isinstance(data, dict) else data
    return tables[clip_set.index].get("masks") if clip_set.index < len(tables) else None


def _read_numbers(table: Mapping[str, Any], place: str) -> dict[str, int]:
    if not all(type(number) is int or isinstance(number, int) for number in table.values()):
        raise BadRegion(
            f"masks: this `{place}` names colours, which the editor does not paint; turn the masks"
            " into label maps first"
        )
    return {str(name): int(number) for name, number in table.items()}


def _write_legend(path: Path, table: Mapping[str, int]) -> None:
    with replacing(path) as draft:
        draft.write_text(json.dumps(table, ensure_ascii=False, indent=1) + "\n", "utf-8")


def _rename_key(table: MutableMapping[str, Any], name: str, new: str) -> None:
    """In its place, so that the order of the table and its comments stay."""
    if name not in table:
        if "preset" in table:  # its regions are not written out
            raise BadRegion(f"{name!r} comes from the preset; write [regions] out first")
        return
    entries = list(table.items())
    at = [key for key, _ in entries].index(name)
    later = entries[at:]
    for key, _ in later:
        del table[key]
    for key, value in later:
        table[new if key == name else key] = value
