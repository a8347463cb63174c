"""Whether a run is running, and how it ended: by its lock, its checkpoints and its result."""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import psutil

from frisket.disk.untrusted import BadText, read_text
from frisket.studio.runs.results import list_results

LOCK = ".frisket.lock"  # as `training.lock`
OWNER = re.compile(r"process (\d{1,10}) on (\S+) since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
SLACK = 5.0  # seconds by which clocks may disagree
QUIET = 120.0  # seconds without a new line after which a run on another machine counts as ended
RunState = Literal["running", "stopped", "finished", "failed"]


def read_state(folder: Path, step: int, of_steps: int | None) -> RunState:
    """How a run stands, `step` being the last line of its metrics.

    finished: its last checkpoint is of the step it was to reach, and its LoRA (or model) is there.
    stopped: it ended before, and all that it had done is in a checkpoint. failed: it ended with
    work that no checkpoint holds, as a kill or an error leaves it.
    """
    if is_running(folder):
        return "running"
    saved = find_saved_step(folder)
    if list_results(folder) and (of_steps is None or max(step, saved) >= of_steps):
        return "finished"
    return "stopped" if saved and saved >= step else "failed"


def find_saved_step(folder: Path) -> int:
    """The step of the newest whole checkpoint; 0 where there is none."""
    steps = [
        int(path.parent.name.removeprefix("step-"))
        for path in folder.glob("checkpoints/step-*/manifest.json")
        if path.parent.name.removeprefix("step-").isdecimal()
    ]
    return max(steps, default=0)


def is_running(folder: Path) -> bool:
    """Whether a living process holds the folder's lock.

    The lock itself is never tried: for that moment a run that starts would be refused. Its file
    names the process and when it took it, and that process must still have it open. Of a process
    on another machine only its metrics tell.
    """
    try:
        text = read_text(folder / LOCK, 4096)
    except (OSError, BadText):
        return False
    match = OWNER.match(text)
    if match is None:
        return False
    pid, host, since = int(match[1]), match[2], match[3]
    if host != socket.gethostname():
        return _was_written_lately(folder / "metrics.jsonl")
    return _holds_since(pid, since, folder / LOCK)


def _holds_since(pid: int, since: str, lock: Path) -> bool:
    """Whether the process was there when the lock was taken (ids are used again) and has it open.

    Where its files may not be listed, that it lives is taken for it.
    """
    try:
        process = psutil.Process(pid)
        locked_at = time.mktime(time.strptime(since, "%Y-%m-%d %H:%M:%S"))
        if process.status() == psutil.STATUS_ZOMBIE or process.create_time() > locked_at + SLACK:
            return False
        return any(Path(file.path).samefile(lock) for file in _list_files(process))
    except psutil.AccessDenied:
        return True
    except (psutil.Error, OSError, ValueError, OverflowError):
        return False


def _list_files(process: psutil.Process) -> Iterator[Any]:
    """The files that a process has open and that are still there."""
    return (file for file in process.open_files() if Path(file.path).exists())


def _was_written_lately(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < QUIET
    except OSError:
        return False


def read_started(folder: Path) -> float | None:
    """When the run was begun, in seconds since 1970: the oldest file it leaves at its start."""
    times = []
    for name in (LOCK, "trained.toml", "metrics.jsonl"):
        try:
            times.append((folder / name).stat().st_ctime)
        except OSError:
            continue
    try:
        since = OWNER.match(read_text(folder / LOCK, 4096))
        if since is not None:
            times.append(time.mktime(time.strptime(since[3], "%Y-%m-%d %H:%M:%S")))
    except (OSError, BadText, ValueError, OverflowError):
        pass
    return min(times, default=None)
