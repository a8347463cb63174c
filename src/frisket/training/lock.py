"""One run, one folder: a lock that its owner's death opens."""

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

LOCK = ".frisket.lock"


class RunLocked(RuntimeError):
    """A folder that another run is writing to; the message says which."""


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Own `folder` within the block. RunLocked where a living process does.

    The lock is the operating system's (flock): a process that dies, however, gives it up. On a
    file system without locks that is said, and nothing is locked.
    """
    path = folder / LOCK
    file = path.open("a+", encoding="utf-8")
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read(200).strip() or "another process"
            raise RunLocked(
                f"run.output: {folder} is being written by {owner}; wait for it, stop it, or choose"
                " another folder with --set run.output=..."
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            log.warning(
                "run.output: the file system of %s has no locks (%s): make sure that no other run"
                " writes there",
                folder,
                error.strerror,
            )
        file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {started}")
        file.flush()
        yield
    finally:
        file.close()  # which unlocks; removing the file would race with its next owner
