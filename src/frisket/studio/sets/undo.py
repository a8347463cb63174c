"""What can be taken back: edits of many captions, and clips moved to the studio's own trash."""

import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from frisket.disk.atomic import replacing
from frisket.studio.sets.captions import CaptionChanged, CaptionText, write_caption
from frisket.studio.sets.listing import ClipRow
from frisket.studio.workspace import UnknownId

MOST_EDITS = 50  # caption edits that can be taken back


class NothingToUndo(UnknownId):
    """An edit or a piece of trash that is not there (any more)."""


@dataclass(frozen=True, slots=True)
class Trashed:
    """Clips in the trash: when, and which."""

    id: str
    at: float
    names: tuple[str, ...]


def make_name() -> str:
    """A new name that sorts by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{token_hex(3)}"


def check_name(name: str) -> str:
    """The same name where it is one of ours; NothingToUndo for anything else."""
    if not name.replace("-", "").isalnum() or not name.isascii() or len(name) > 40:
        raise NothingToUndo(f"there is no {name[:40]!r} to take back")
    return name


def keep_edit(
    folder: Path, set_id: str, changed_captions: Sequence[tuple[ClipRow, str, CaptionText]]
) -> str:
    """Keep the texts before an edit (row, text before, text and revision after); gives its name."""
    name = make_name()
    entries = [
        {"clip": row.id, "name": row.name, "before": before, "revision": after.revision}
        for row, before, after in changed_captions
    ]
    with replacing(folder / f"{name}.json") as draft:
        draft.write_text(json.dumps({"set": set_id, "captions": entries}), encoding="utf-8")
    for old in sorted(folder.glob("*.json"))[:-MOST_EDITS]:
        old.unlink(missing_ok=True)
    return name


def read_edit(folder: Path, name: str) -> dict[str, Any]:
    """A kept edit: its set and its captions."""
    path = folder / f"{check_name(name)}.json"
    try:
        edit: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise NothingToUndo(f"the edit {name!r} cannot be taken back any more") from error
    return edit


def take_back(edit: Mapping[str, Any], rows: Mapping[str, ClipRow]) -> tuple[list[str], list[str]]:
    """Write the texts before an edit; gives the clips (ids) it is done for, and names of others.

    A caption that was changed since is left as it is.
    """
    restored_ids, passed = [], []
    for entry in edit["captions"]:
        row = rows.get(entry["clip"])
        try:
            if row is None:
                raise NothingToUndo(entry["name"])
            write_caption(row, entry["before"], entry["revision"])
        except (CaptionChanged, NothingToUndo, ValueError, OSError):
            passed.append(entry["name"])
        else:
            restored_ids.append(entry["clip"])
    return restored_ids, passed


def move_to_trash(trash: Path, rows: Iterable[ClipRow]) -> Trashed:
    """Move clips with their captions, masks and records to a folder of the trash.

    The list of what lay where is written first, so that whatever happens can be taken back.
    """
    rows = list(rows)
    name = make_name()
    place = trash / name
    files = [path for row in rows for path in list_files(row)]
    moves = [
        {"from": str(path), "to": f"{number:05d}-{path.name}"} for number, path in enumerate(files)
    ]
    names = [row.name for row in rows]
    with replacing(place / "trash.json") as draft:
        draft.write_text(json.dumps({"names": names, "files": moves}), encoding="utf-8")
    for move in moves:
        shutil.move(move["from"], place / move["to"])
    return Trashed(name, time.time(), tuple(names))


def list_files(row: ClipRow) -> list[Path]:
    """Every file that belongs to a clip alone."""
    paths = [row.path]
    if row.captioned and row.caption is not None:
        paths.append(row.caption)
    for mask in row.masks.values():
        record = mask.with_name(mask.name.removesuffix(mask.suffix) + ".json")
        paths += [mask, record]
    return [path for path in dict.fromkeys(paths) if path.exists()]


def restore_from_trash(trash: Path, name: str) -> Trashed:
    """Move everything back where it lay. ValueError names a file that has another there now."""
    place = trash / check_name(name)
    try:
        record = json.loads((place / "trash.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise NothingToUndo(f"nothing named {name!r} is in the trash") from error
    moves = [(place / move["to"], Path(move["from"])) for move in record["files"]]
    taken_places = [path for source, path in moves if source.exists() and path.exists()]
    if taken_places:
        raise ValueError(
            f"{taken_places[0]}: another file has this name now; move it away, then take back again"
        )
    for source, path in moves:
        if source.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(source, path)
    shutil.rmtree(place)
    return Trashed(name, time.time(), tuple(record["names"]))


def list_trash(trash: Path) -> list[Trashed]:
    """What is in the trash, newest first."""
    pieces = []
    for path in sorted(trash.glob("*/trash.json"), reverse=True):
        try:
            record = json.loads(path.read_text("utf-8"))
            at = path.stat().st_mtime
            pieces.append(Trashed(path.parent.name, at, tuple(record["names"])))
        except (OSError, ValueError, KeyError):
            continue
    return pieces
