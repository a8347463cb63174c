"""Reads a child's report as it grows, and what it comes to."""

import json
import re
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.studio.jobs.text import clean_line

CHUNK = 1 << 20  # bytes read at once
LONGEST = 1 << 18  # bytes of a line
PACE = 40  # steps of a stage, by which its seconds left are told
VALUES_SHOWN = 32  # values of a step, and letters of each name
LARGEST = 1e15  # of what is counted, and of times


@dataclass(slots=True)
class JobProgress:
    """The newest step: `done` of `total` in `stage`, `at` unix seconds, and seconds `left`."""

    stage: str
    done: int
    total: int
    at: float
    values: dict[str, float | str]
    left: float | None = None


@dataclass(slots=True)
class ReportTail:
    """What a report says so far. `read` goes on where it ended; a last line without end waits."""

    path: Path
    offset: int = 0
    pid: int | None = None
    started: float | None = None
    progress: JobProgress | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    message: str = ""  # the newest message of the log
    error: str = ""
    fix: str = ""
    stopped: str = ""
    code: int | None = None
    ended: float | None = None
    _last: float | None = None  # when the event before was
    _pace: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=PACE))

    def read(self) -> bool:
        """Read what was added; whether anything was."""
        changed = False
        while (lines := self._read_lines()) is not None:
            changed = True
            for line in _leave_out_steps(lines):
                event = parse_event(line)
                if event is not None:
                    self._take(event)
        return changed

    def _read_lines(self) -> list[bytes] | None:
        """The whole lines of the next block; None where there is none yet."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                block = file.read(CHUNK)
        except OSError:  # not begun, or taken away
            return None
        lines, newline, rest = block.rpartition(b"\n")
        if not newline:
            if len(rest) < LONGEST:
                return None
            self.offset += len(rest)  # no line of ours
            return []
        self.offset += len(lines) + 1
        return lines.split(b"\n")

    def _take(self, event: dict[str, Any]) -> None:
        take = getattr(self, f"_take_{event['event']}", None)
        if take is not None:
            take(event)
        self._last = float(event["at"])

    def _take_start(self, event: dict[str, Any]) -> None:
        self.pid, self.started = int(event["pid"]), event["at"]

    def _take_progress(self, event: dict[str, Any]) -> None:
        stage, count, total = clean_line(event["stage"]), event["done"], event["total"]
        at = float(event["at"])
        last = self.progress
        if last is None or last.stage != stage or count < last.done:
            self._pace.clear()
            # What comes before a stage's first step is its first step at work: several clips of a
            # group are often done at one moment.
            began = at if self._last is None else self._last
            self._pace.append((began, max(count - 1, 0)))
        self._pace.append((at, count))
        values = {
            clean_line(name)[:VALUES_SHOWN]: _show_number(value)
            for name, value in list(event.get("values", {}).items())[:VALUES_SHOWN]
        }
        left = self._estimate_left(total)
        self.progress = JobProgress(stage, count, total, at, values, left)

    def _estimate_left(self, total: int) -> float | None:
        """Seconds that the rest of the stage takes at the pace of its newest steps."""
        (first_at, first), (at, count) = self._pace[0], self._pace[-1]
        if count >= total:
            return 0.0
        if count <= first or at <= first_at:
            return None
        return (at - first_at) / (count - first) * (total - count)

    def _take_output(self, event: dict[str, Any]) -> None:
        self.outputs[str(event["kind"])] = str(event["path"])

    def _take_log(self, event: dict[str, Any]) -> None:
        self.message = clean_line(str(event["message"]))

    def _take_error(self, event: dict[str, Any]) -> None:
        self.error, self.fix = str(event["message"]), str(event.get("fix", ""))

    def _take_stopped(self, event: dict[str, Any]) -> None:
        self.stopped = str(event["message"])

    def _take_end(self, event: dict[str, Any]) -> None:
        self.code, self.ended = int(event["code"]), event["at"]


_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {  # what an event must have, to be one
    "start": {"pid": int},
    "progress": {"stage": str, "done": int, "total": int},
    "output": {"kind": str, "path": str},
    "log": {"message": str},
    "error": {"message": str},
    "stopped": {"message": str},
    "end": {"code": int},
}


def _leave_out_steps(lines: list[bytes]) -> list[bytes]:
    """Lines of a block without the steps that newer ones make old: of a day they are many."""
    newest = 2 * PACE
    older = [line for line in lines[:-newest] if b'"event": "progress"' not in line]
    return older + lines[-newest:]


def parse_event(line: bytes) -> dict[str, Any] | None:
    """An event of a line; None for a line that is none (cut by a kill, or not ours)."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict) or not _is_count(event.get("at")):
        return None
    fields = _FIELDS.get(str(event.get("event")))
    if fields is None or not isinstance(event.get("values", {}), dict):
        return None
    is_complete = all(
        isinstance(event.get(name), kind) and (kind is str or _is_count(event[name]))
        for name, kind in fields.items()
    )
    return event if is_complete else None


def _is_count(value: object) -> bool:
    """Whether a value is a number that can be reckoned with (nan is not)."""
    return isinstance(value, int | float) and abs(value) <= LARGEST


def _show_number(value: object) -> float | str:
    """A number for JSON; what JSON has no number for by its name."""
    if isinstance(value, int | float) and abs(value) <= sys.float_info.max:
        return float(value)
    return clean_line(str(value))[:VALUES_SHOWN]


def read_last_events(path: Path, count: int, *, size: int = 1 << 17) -> list[dict[str, Any]]:
    """The last `count` events of a report, of its last `size` bytes."""
    events = [parse_event(line) for line in _read_end(path, size).split(b"\n")]
    return [event for event in events if event is not None][-count:] if count else []


def read_last_lines(path: Path, count: int, *, size: int = 1 << 16) -> list[str]:
    """The last `count` lines that a child printed, as text that can be shown."""
    text = _read_end(path, size).decode("utf-8", "replace")
    lines = [clean_line(line) for line in re.split(r"\r?\n|\r", text)]
    while lines and not lines[-1]:
        lines.pop()
    return lines[-count:] if count else []


def _read_end(path: Path, size: int) -> bytes:
    """The last `size` bytes of a file from a line's begin on; nothing where there is none."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(max(length - size, 0))
            block = file.read(size)
    except OSError:
        return b""
    return block if length <= size else block.partition(b"\n")[2]
