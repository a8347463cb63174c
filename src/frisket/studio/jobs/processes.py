"""Children: how they are started, known again after a restart, and stopped."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

START_TOLERANCE = 1.5  # seconds by which two readings of one process's start may differ
HIDDEN = ("FRISKET_STUDIO", "FRISKET_REPORT")  # of the server's surroundings: none of the child's


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process by number and start (unix seconds): numbers are used again, starts are not."""

    pid: int
    started: float


def start_command(
    argv: Sequence[str], report: Path, log: Path, *, folder: Path
) -> subprocess.Popen[bytes]:
    """Start `frisket ARGV` in a session of its own, reporting to `report`, printing to `log`.

    `folder` is where it runs. OSError where the system cannot start it.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
    environment |= {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "120"}
    with log.open("ab") as lines:
        return subprocess.Popen(
            [sys.executable, "-m", "frisket.cli", "--report", str(report), *argv],
            stdin=subprocess.DEVNULL,
            stdout=lines,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a living process; None where none has the number."""
    try:
        return ProcessIdentity(pid, psutil.Process(pid).create_time())
    except (psutil.Error, ValueError, OverflowError):
        return None


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether that very process lives.

    Another one with its number does not count, nor a dead one that nobody has buried.
    """
    try:
        process = psutil.Process(identity.pid)
        if abs(process.create_time() - identity.started) > START_TOLERANCE:
            return False
        return bool(process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except (psutil.Error, ValueError, OverflowError):
        return False


def send_signal(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Send a signal to a child and all it started; False where it is gone.

    As Ctrl-C in a terminal does: to the whole group, which a child that leads its session has.
    """
    if not is_alive(identity):
        return False
    try:
        os.killpg(identity.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
