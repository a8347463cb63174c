"""The log of edits: what was painted on a clip's mask in the studio, to be done again."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frisket.disk.atomic import writing
from frisket.disk.untrusted import ANNOTATIONS, BadText, cut, parse_json, read_text
from frisket.maskgen.files import record
from frisket.maskgen.files.places import MaskStore

VERSION = 1
HAND = "edited by hand in the studio"  # how the note of a record begins
RESTORE = "restore"  # an edit of the server's own: an earlier version was brought back
_Revision = Annotated[str, Field(pattern=r"^\d{1,9}-\w{1,64}$")]


class BadLog(ValueError):
    """A log of edits that cannot be read; names the file, the line and the fix."""


class LoggedSave(BaseModel):
    """What one save added: the edits that led from one revision to another."""

    model_config = ConfigDict(frozen=True, strict=True)

    version: int = VERSION
    name: str  # of the clip, as `frisket masks` knows it
    frame: Annotated[int, Field(ge=0)] = 0
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    before: _Revision
    after: _Revision
    when: str
    legend: dict[str, Annotated[int, Field(ge=0, le=255)]]  # region to the id edits name it by
    edits: Annotated[tuple[dict[str, Any], ...], Field(strict=False)]

    @property
    def number(self) -> int:
        """The version that the save became."""
        return int(self.after.partition("-")[0])


@dataclass(frozen=True, slots=True)
class EditLog:
    """One clip's log, a JSON object a line."""

    path: Path

    def append(self, save: LoggedSave, *, again: bool = False) -> None:
        """Add a save; one that is tried `again` after a crash only where it is not there yet."""
        if again and self._holds(save.after):
            return
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A line that a crash cut off ends here, and is passed over when read.
            start = "" if self._is_complete() else "\n"
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(start + save.model_dump_json() + "\n")

    def read(self) -> list[LoggedSave]:
        """All saves in order; BadLog for a line that is whole and no save."""
        return list(_read_saves(self.path))

    def _holds(self, revision: str) -> bool:
        return self.path.is_file() and any(save.after == revision for save in self.read())

    def _is_complete(self) -> bool:
        if not self.path.is_file() or not self.path.stat().st_size:
            return True
        with self.path.open("rb") as stream:
            stream.seek(-1, 2)
            return stream.read(1) == b"\n"


def _read_saves(path: Path) -> Iterator[LoggedSave]:
    try:
        lines = read_text(path, ANNOTATIONS).split("\n")
    except BadText as error:
        raise BadLog(f"{path}: a log of edits that {error}; remove it") from error
    for number, line in enumerate(lines, start=1):
        if not line.endswith("}"):  # cut off by a crash, or the end of the file
            continue
        try:
            yield LoggedSave.model_validate_json(json.dumps(parse_json(line)))
        except BadText as error:
            raise BadLog(f"{path} line {number}: no JSON ({error}); remove the line") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = cut(".".join(map(str, first["loc"])), 80)
            message = f"{path} line {number}: {place}: {cut(first['msg'])}; remove the line"
            raise BadLog(message) from error


def list_edits(saves: Sequence[LoggedSave]) -> list[tuple[Mapping[str, int], dict[str, Any]]]:
    """Every edit in order with the legend it goes by; none of what a restored version undid."""
    kept_saves: list[LoggedSave] = []
    for save in saves:
        restored = [edit for edit in save.edits if edit.get("op") == RESTORE]
        if restored:
            number = restored[-1].get("number")
            kept_saves = [
                old for old in kept_saves if isinstance(number, int) and old.number <= number
            ]
        else:
            kept_saves.append(save)
    return [(save.legend, edit) for save in kept_saves for edit in save.edits]


def find_gaps(saves: Sequence[LoggedSave]) -> list[str]:
    """Revisions that a save went on from and that the save before it did not lead to.

    What happened between is not in the log: another program wrote the mask, or a line is lost.
    """
    return [
        later.before
        for earlier, later in pairwise(saves)
        if _cut_number(later.before) != _cut_number(earlier.after)
    ]


def _cut_number(revision: str) -> str:
    return re.sub(r"^\d+-", "", revision)


def note_hand(store: MaskStore, name: str, when: str) -> None:
    """Say in the record of a mask, where `frisket masks` left one, that a hand was at it.

    The stamps stay those of what was made: that they do not hold any more is what tells `frisket
    masks` to leave the mask alone. A record that cannot be read is left as it is.
    """
    try:
        path = store.record(name)
        mask_record = record.load(path)
    except ValueError:  # `frisket masks` names the fault
        return
    if mask_record is None:
        return
    other_notes = tuple(note for note in mask_record.notes if not note.startswith(HAND))
    record.save(replace(mask_record, notes=(*other_notes, f"{HAND}, {when}")), path)
