"""`--report FILE`: a command's progress, messages, outputs and end, a JSON line each.

Every line has `at` (unix seconds) and `event`:

- `start`: argv, pid, version;
- `progress`: stage, done, total, values (numbers; those JSON has no word for as "nan", "inf");
- `log`: level, message, as the terminal shows it;
- `output`: kind, path (absolute) of what the command writes or has written;
- `error`: message (the red line), fix; `traceback` where the error was not written for readers;
- `stopped`: message, where Ctrl-C ended the work in good order;
- `end`: code, the exit status. A report without it is of a command that runs or was killed.

A line is one write to a file opened for appending: a kill loses the line at most.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frisket.progress import Progress

QUICK, SLOW = 0.2, 2.0  # seconds between two lines of a stage: at first, and in a long one
SLOWING = 600.0  # a stage's age, seconds, over this is the pause between its lines
LONGEST = 8000  # letters of a message
TRACE = 12  # last lines of a traceback


@dataclass(slots=True)
class _Stage:
    """The progress stage that is told of now."""

    name: str
    began: float
    written_at: float
    count: int
    pending: dict[str, Any] | None = None  # a step that no line was due for


@dataclass(slots=True)
class EventFile:
    """The open report of this process; its forked children write none."""

    path: Path
    descriptor: int
    pid: int = field(default_factory=os.getpid)
    broken: bool = False
    _stage: _Stage | None = None
    # Re-entrant: a signal's handler may log while a line is being written.
    _lock: Any = field(default_factory=threading.RLock)

    def record(self, event: str, **fields: Any) -> None:
        """Append an event; a step of progress that was held back goes first."""
        if os.getpid() != self.pid:  # of a fork, whose copy of the lock may be held for ever
            return
        with self._lock:
            self._flush_step()
            self._write({"at": time.time(), "event": event, **fields})

    def step(
        self, stage: str, count: int, total: int, values: Mapping[str, float] | None = None
    ) -> None:
        """Hear of progress; a stage's first and last steps are always written."""
        if os.getpid() != self.pid:
            return
        with self._lock:
            now = time.time()
            line = {
                **{"at": now, "event": "progress", "stage": stage},
                **{"done": int(count), "total": int(total)},
                "values": {name: _spell_number(value) for name, value in (values or {}).items()},
            }
            current = self._stage
            if current is None or current.name != stage or count < current.count:
                self._flush_step()
                self._stage = _Stage(stage, now, now, count)
                self._write(line)
                return
            current.count = count
            pause = min(max(QUICK, (now - current.began) / SLOWING), SLOW)
            if count >= total or not 0 <= now - current.written_at < pause:
                current.written_at, current.pending = now, None
                self._write(line)
            else:
                current.pending = line

    def close(self, code: int) -> None:
        """Write the end and close the file."""
        self.record("end", code=code)
        if os.getpid() == self.pid:
            os.close(self.descriptor)

    def _flush_step(self) -> None:
        if self._stage is not None and self._stage.pending is not None:
            line, self._stage.pending = self._stage.pending, None
            self._write(line)

    def _write(self, line: Mapping[str, Any]) -> None:
        if self.broken:
            return
        try:
            os.write(self.descriptor, (json.dumps(line, default=str) + "\n").encode("ascii"))
        except OSError as error:  # the report serves the work, and never ends it
            self.broken = True
            print(
                f"--report {self.path}: cannot be written ({error.strerror}); the command goes on,"
                " and reports nothing more",
                file=sys.stderr,
            )


_open: list[EventFile] = []  # the report of this process, where one was asked for


def open_report(path: Path) -> None:
    """Begin the report of this process. CannotWrite where the file cannot be opened.

    Of several processes that torchrun or accelerate start the first alone reports.
    """
    if _open or os.environ.get("RANK", "0") != "0":
        return
    from frisket import __version__
    from frisket.disk.atomic import writing

    path = path.absolute()
    with writing(path, kept="nothing was begun"):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    _open.append(EventFile(path, descriptor))
    argv = [clean_text(word) for word in sys.argv]
    record_event("start", argv=argv, pid=os.getpid(), version=__version__)


@contextmanager
def finish_report() -> Iterator[None]:
    """Around a whole command: however it ends, its report says so, and is closed."""
    code = 1
    try:
        yield
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        raise
    except KeyboardInterrupt:
        code = 130
        raise
    finally:
        if _open:
            _open.pop().close(code)


def record_event(event: str, **fields: Any) -> None:
    """Append an event to the report of this process, if it has one."""
    if _open:
        _open[-1].record(event, **fields)


def record_log(level: int, message: str) -> None:
    """Report a message as the terminal shows it, by its level of `logging`."""
    level_name = logging.getLevelName(level).lower()
    record_event("log", level=level_name, message=clean_text(message)[:LONGEST])


def record_error(message: str, fix: str = "", trace: Sequence[str] = ()) -> None:
    """Report what ended the command: the text of the red line, or of a traceback."""
    extra = {"traceback": [clean_text(line) for line in trace[-TRACE:]]} if trace else {}
    record_event("error", message=clean_text(message)[: LONGEST + 100], fix=fix, **extra)


def record_output(kind: str, path: Path) -> None:
    """Report a file or folder that the command writes: run, masks, page, pictures, ..."""
    record_event("output", kind=kind, path=clean_text(str(path.absolute())))


def record_steps(show: Progress) -> Progress:
    """Progress that is reported as well as shown; `show` itself where nobody asked for a report."""
    if not _open:
        return show

    def report(
        stage: str, count: int, total: int, values: Mapping[str, float] | None = None
    ) -> None:
        if _open:
            _open[-1].step(stage, count, total, values)
        show(stage, count, total, values)

    return report


def clean_text(text: str) -> str:
    """Text that any encoder takes: the bytes of a name that is no text are spelt out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _spell_number(value: Any) -> float | str:
    """A number for JSON, six digits of it; what JSON has no number for by its name."""
    number = float(value)
    return float(f"{number:.6g}") if abs(number) < float("inf") else str(number)
