"""One folder, one studio: a lock that its owner's death opens."""

import errno
import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from frisket.disk.atomic import writing

log = logging.getLogger(__name__)

LOCK = "lock"


class StudioOpen(RuntimeError):
    """A folder that another studio has open; the message says how to reach that one."""


class NotOurs(ValueError):
    """A folder whose `.frisket-studio` leads elsewhere."""


@dataclass(slots=True)
class FolderLock:
    """The lock of this studio, in which it says where it is reached."""

    file: TextIOWrapper
    owner: str

    def publish_address(self, address: str) -> None:
        """Say under which address the page is; without its token: others may read the file."""
        self.file.seek(0)
        self.file.truncate(0)
        self.file.write(f"{self.owner}\n{address}\n")
        self.file.flush()


@contextmanager
def lock_home(home: Path) -> Iterator[FolderLock]:
    """Own ROOT/.frisket-studio within the block, before anything in it is read or written.

    StudioOpen where a living process does; CannotWrite. The lock is the operating system's: a
    server that dies, however, gives it up, and its children do not inherit it. On a file system
    without locks that is said, and nothing is locked.
    """
    path = home / LOCK
    if home.is_symlink() or path.is_symlink():
        raise NotOurs(
            f"{path}: a link stands there, and the studio would write where it leads; a folder"
            f" from elsewhere? Remove {home} and open it again"
        )
    with writing(path, kept="nothing was begun"):
        home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise StudioOpen(_describe_owner(home, file.read(400))) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            log.warning(
                "%s: its file system has no locks (%s): open one studio at a time there",
                home,
                error.strerror,
            )
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        lock = FolderLock(file, f"process {os.getpid()} on {socket.gethostname()} since {since}")
        lock.publish_address("")
        yield lock


def _describe_owner(home: Path, contents: str) -> str:
    owner, _, address = contents.partition("\n")
    state = f"at {address.strip()}" if address.strip() else "and is starting"
    return (
        f"{home.parent} is open in a studio already ({owner or 'another process'}) {state}; the"
        " whole address, with its token, stands in the terminal where that one was started. Use it,"
        " or end it there with Ctrl-C: its jobs go on"
    )
