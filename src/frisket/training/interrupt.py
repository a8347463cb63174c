"""Ctrl-C and the signals of servers end a run after the step it is in."""

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

log = logging.getLogger(__name__)

# Ctrl-C; docker stop, Slurm, Kubernetes and spot machines; a closed terminal.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """A run that was asked to stop, and saved; `code` is what a shell expects as exit status."""

    def __init__(self, message: str, signal_number: int) -> None:
        """Keep which signal it was."""
        super().__init__(message)
        self.code = 128 + signal_number


@contextmanager
def listening(stop: Callable[[int], None]) -> Iterator[None]:
    """Within the block the first signal is handed to `stop`; a second one interrupts at once.

    A signal that the process was started to ignore (nohup, a job in the background) stays
    ignored. Outside the main thread nothing is caught: whoever runs us there handles signals.
    """
    interrupted = False

    def ask(number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        log.warning(
            "%s: stopping after this step; a second one stops at once, without saving",
            signal.Signals(number).name,
        )
        stop(number)

    before = {}
    try:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, ask)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
