"""What the index needs of a growing metrics.jsonl: its last line, and its best validation."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHUNK = 1 << 20  # bytes read at a time
LONGEST = 1 << 20  # bytes of a line that are kept: more is no line of metrics


@dataclass(frozen=True, slots=True)
class Best:
    """The validation with the least error inside the regions."""

    step: int
    error: float  # mean squared error of the tuned model, averaged over the regions
    base: float | None  # of the base model, on the same clips and noise


@dataclass(slots=True)
class StepTail:
    """Follows one file: `refresh` reads what was added, and all of it again where it was cut.

    A line that is no metrics (half a line of a killed run, a foreign file) is passed by: the run's
    own commands refuse it by name.
    """

    path: Path
    step: int = 0
    seconds: float = 0.0
    best: Best | None = None
    _file: tuple[int, int] = (0, 0)  # device and inode
    _offset: int = 0
    _rest: bytes = field(default=b"", repr=False)

    def refresh(self) -> None:
        """Read what is new; a file that is not there leaves step 0."""
        try:
            about = self.path.stat()
        except OSError:
            self._reset((0, 0))
            return
        if (about.st_dev, about.st_ino) != self._file or about.st_size < self._offset:
            self._reset((about.st_dev, about.st_ino))
        if about.st_size == self._offset:
            return
        try:
            self._read_new()
        except OSError:  # a network disk that is gone for a moment: it is read at the next call
            return

    def _reset(self, file: tuple[int, int]) -> None:
        self.step, self.seconds, self.best = 0, 0.0, None
        self._file, self._offset, self._rest = file, 0, b""

    def _read_new(self) -> None:
        last = b""
        with self.path.open("rb") as file:
            file.seek(self._offset)
            while chunk := file.read(CHUNK):
                self._offset += len(chunk)
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                self._rest = self._rest[:LONGEST]
                for line in lines:
                    if b'"validation"' in line:
                        self._take_validation(line)
                last = next((line for line in reversed(lines) if line.strip()), last)
        row = _parse_line(last)
        if row is not None:
            self.step, self.seconds = int(row["step"]), float(row["seconds"])

    def _take_validation(self, line: bytes) -> None:
        row = _parse_line(line)
        scores = row.get("validation") if row is not None else None
        if row is None or not isinstance(scores, dict):
            return
        error, base = (_average_inside(scores.get(name)) for name in ("tuned", "base"))
        if error is not None and (self.best is None or error < self.best.error):
            self.best = Best(int(row["step"]), error, base)


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """A line of metrics; None for anything else."""
    try:
        row = json.loads(line)
        int(row["step"]), float(row["seconds"])
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    return row if isinstance(row, dict) else None


def _average_inside(scores: Any) -> float | None:
    """The error averaged over the regions; None where there is none."""
    if not isinstance(scores, Mapping):
        return None
    inside = [
        float(value)
        for name, value in scores.items()
        if name.startswith("loss/") and name != "loss/outside" and isinstance(value, int | float)
    ]
    return sum(inside) / len(inside) if inside else None
