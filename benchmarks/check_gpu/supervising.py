"""Runs the checks in a process of its own, within a time, whatever happens to that process."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.check_gpu.order import Entry

ROOT = Path(__file__).resolve().parents[2]
STARTING = 120.0  # seconds a process may take to import everything
COMMAND = (sys.executable, "-m", "benchmarks.check_gpu")


@dataclass
class Result:
    """All that is known so far; `write` is called after every check, so that a kill loses none."""

    device: str
    machine: dict[str, str] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)
    began: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S"))
    seconds: float = 0.0
    whole: bool = False  # whether it came to its end

    def write(self, path: Path | None) -> None:
        """Write it whole, or leave what was there; nothing without a path."""
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.part")
        draft.write_text(json.dumps(vars(self), indent=1) + "\n", encoding="utf-8")
        draft.replace(path)


class Worker:
    """One process that runs checks; its lines arrive in a queue, None when it has ended."""

    def __init__(self, device: str, names: Sequence[str], log: Any) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, "--device", device, "--worker", *names],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            # cuBLAS is deterministic only where this is set before CUDA starts.
            env={"CUBLAS_WORKSPACE_CONFIG": ":4096:8", **os.environ},
        )
        self.lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def next(self, seconds: float) -> dict[str, Any] | None:
        """The next line, None at the end; TimeoutError where none comes in time."""
        try:
            return self.lines.get(timeout=max(0.1, seconds))
        except queue.Empty:
            raise TimeoutError from None

    def stop(self) -> str:
        """End it; says how it had ended by itself, if it had."""
        try:  # it has closed its output by then, or is to be ended
            code = self.process.wait(0 if self.reader.is_alive() else 10)
        except subprocess.TimeoutExpired:
            code = None
            self.process.kill()
            self.process.wait()
        self.reader.join()
        return f"signal {-code}" if code is not None and code < 0 else f"exit {code}"


def run_all(
    entries: Sequence[Entry],
    result: Result,
    *,
    minutes: float,
    output: Path | None,
    log: Any,
    tell: Callable[[dict[str, Any]], None],
) -> None:
    """Run the checks in order until the time is over; each has its own limit and ends no other."""
    began = time.monotonic()
    waiting = list(entries)

    def left() -> float:
        return 60 * minutes - (time.monotonic() - began)

    def note(entry: Entry, status: str, said: str, seconds: float = 0.0, **more: Any) -> None:
        line = {"name": entry.name, "status": status, "said": said, "seconds": seconds, **more}
        result.checks.append(line)
        result.seconds = round(time.monotonic() - began, 1)
        result.write(output)
        tell(line)

    while waiting:
        if left() < waiting[0].expects:
            for entry in waiting:
                note(entry, "SKIP", "no time was left for it")
            break
        waiting = _one_process(waiting, result, left, note, log)
    result.whole = True
    result.write(output)


def _one_process(
    waiting: list[Entry],
    result: Result,
    left: Callable[[], float],
    note: Callable[..., None],
    log: Any,
) -> list[Entry]:
    """Run checks until all are done, one hangs or the process dies; those that are still to do."""
    worker = Worker(result.device, [entry.name for entry in waiting], log)
    try:
        while waiting and left() >= waiting[0].expects:
            entry = waiting[0]
            event = _beginning(worker, result, min(STARTING, left()))
            if event == "broken":  # the last check left the card without an answer: a new process
                return waiting
            waiting = waiting[1:]
            if event != "begin":
                note(entry, "FAIL", f"its process did not start ({worker.stop()}); see the log")
                return waiting
            if not _ending(worker, entry, min(entry.limit, left()), note):
                return waiting
    finally:
        worker.stop()
    return waiting


def _beginning(worker: Worker, result: Result, seconds: float) -> str:
    """Read on until a check begins, or the process says or shows that none will."""
    while True:
        try:
            line = worker.next(seconds)
        except TimeoutError:
            return "late"
        if line is None:
            return "ended"
        if line["event"] != "machine":
            return str(line["event"])
        result.machine = line["machine"]


def _ending(worker: Worker, entry: Entry, limit: float, note: Callable[..., None]) -> bool:
    """Wait for a check and note it; whether its process can go on."""
    try:
        line = worker.next(limit)
    except TimeoutError:
        if limit < entry.limit:
            note(entry, "SKIP", "no time was left to finish it", round(limit, 1))
        else:
            note(entry, "FAIL", f"still at it after {limit:.0f} s", round(limit, 1))
        return False
    if line is None:
        note(entry, "FAIL", f"its process died ({worker.stop()}); see the log")
        return False
    numbers = {"numbers": line["numbers"]} if line["numbers"] else {}
    note(entry, line["status"], line["said"], line["seconds"], **numbers)
    return True
