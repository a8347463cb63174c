"""Follows a growing metrics.jsonl: reads what is new, keeps the numbers as columns."""

import json
import math
import os
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHUNK = 1 << 22  # bytes read at once
LONGEST = 1 << 20  # bytes of a line; longer ones are no line of metrics


@dataclass(slots=True)
class Series:
    """Values of one name, each with the number of its line among those read."""

    rows: "array[int]" = field(default_factory=lambda: array("q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))


@dataclass(slots=True)
class ClipDraws:
    """Every clip that a step drew: line, name (an index), place among the run's clips, t, error.

    Errors are NaN where the clip weighed nothing.
    """

    rows: "array[int]" = field(default_factory=lambda: array("q"))
    names: "array[int]" = field(default_factory=lambda: array("q"))
    items: "array[int]" = field(default_factory=lambda: array("q"))
    t: "array[float]" = field(default_factory=lambda: array("d"))
    errors: "array[float]" = field(default_factory=lambda: array("d"))


class MetricsColumns:
    """The lines of one file so far, as columns; `update` reads what was written since.

    A file that became shorter or another (a run that goes on from an earlier step, or begins anew)
    is read from its start. Lines that are none are left out and counted in `bad`. Not thread-safe.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self.path = path
        self._clear()

    def _clear(self) -> None:
        self.steps, self.seconds = array("q"), array("d")
        self.series: dict[str, Series] = {}
        self.clips, self.names = ClipDraws(), dict[str, int]()
        self.bad = 0
        self._offset, self._file, self._head = 0, (0, 0), b""

    def update(self) -> bool:
        """Read what is new; whether there was any. A file that is not there has no lines."""
        try:
            with self.path.open("rb") as file:
                return self._read(file)
        except FileNotFoundError:
            had = len(self.steps) > 0
            self._clear()
            return had

    def _read(self, file: Any) -> bool:
        stat = os.fstat(file.fileno())
        head = file.read(min(64, self._offset))
        file_key = (stat.st_dev, stat.st_ino)
        changed = file_key != self._file or stat.st_size < self._offset or head != self._head
        if changed:
            self._clear()
            self._file = file_key
        before = len(self.steps)
        file.seek(self._offset)
        while chunk := file.read(CHUNK):
            end = chunk.rfind(b"\n") + 1
            if not end:
                if len(chunk) < LONGEST:
                    break  # its end is still to be written
                self._skip_line(file)
                continue
            for line in chunk[:end].split(b"\n")[:-1]:
                self._take(line)
            self._offset += end
            file.seek(self._offset)
        file.seek(0)
        self._head = file.read(min(64, self._offset))
        return changed or len(self.steps) > before

    def _skip_line(self, file: Any) -> None:
        """Go past a line that is longer than any of ours."""
        self.bad += 1
        file.seek(self._offset)
        while chunk := file.read(CHUNK):
            end = chunk.find(b"\n")
            if end >= 0:
                self._offset += end + 1
                break
            self._offset += len(chunk)
        file.seek(self._offset)

    def _take(self, line: bytes) -> None:
        try:
            content = json.loads(line)
            step, seconds = int(content.pop("step")), float(content.pop("seconds"))
            clips = content.pop("clips", [])
            numbers = list(_flatten(content))
            drawn_clips = [self._read_clip(clip) for clip in clips]
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            self.bad += 1
            return
        row = len(self.steps)
        self.steps.append(step)
        self.seconds.append(seconds)
        for name, value in numbers:
            column = self.series.setdefault(name, Series())
            column.rows.append(row)
            column.values.append(value)
        for name, item, t, error in drawn_clips:
            self.clips.rows.append(row)
            self.clips.names.append(self.names.setdefault(name, len(self.names)))
            self.clips.items.append(item)
            self.clips.t.append(t)
            self.clips.errors.append(error)

    @staticmethod
    def _read_clip(clip: Any) -> tuple[str, int, float, float]:
        error = clip.get("error")
        number = math.nan if error is None else float(error)
        return str(clip["name"]), int(clip.get("item", -1)), float(clip["t"]), number


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Numbers by flat name, nested names joined by `/`; null (not finite) is NaN."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        elif value is None:
            yield f"{prefix}{name}", math.nan
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)
