"""The log of edits: what was painted on a clip's mask, stroke by stroke, to be done again."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from frisket.disk.atomic import writing
from frisket.disk.untrusted import ANNOTATIONS, parse_json, read_text

VERSION = 1


@dataclass(frozen=True, slots=True)
class LoggedSave:
    """What one save added: the edits that led from one revision to another."""

    name: str  # of the clip, as `frisket masks` knows it
    frame: int
    width: int
    height: int
    before: str
    after: str
    when: str
    legend: Mapping[str, int]  # region to the id that edits name it by
    edits: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class EditLog:
    """One clip's log, a JSON object a line."""

    path: Path

    def append(self, save: LoggedSave, *, again: bool = False) -> None:
        """Add a save; one that is tried `again` after a crash only where it is not there yet."""
        if again and self._holds(save.after):
            return
        line = json.dumps({"version": VERSION, **asdict(save)}, ensure_ascii=False)
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as stream:
                # A line that a crash cut off ends here, and is passed over when read.
                stream.write((b"" if self._ends_whole() else b"\n") + line.encode() + b"\n")

    def _ends_whole(self) -> bool:
        if not self.path.is_file() or not self.path.stat().st_size:
            return True
        with self.path.open("rb") as stream:
            stream.seek(-1, 2)
            return stream.read(1) == b"\n"

    def _holds(self, revision: str) -> bool:
        if not self.path.is_file():
            return False
        return any(line.get("after") == revision for line in read_lines(self.path))


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The saves of a log; lines that are cut off are passed over."""
    for line in read_text(path, ANNOTATIONS).splitlines():
        try:
            tree = parse_json(line)
        except ValueError:
            continue
        if isinstance(tree, dict) and tree.get("version") == VERSION:
            yield tree
