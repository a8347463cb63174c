"""Writes files whole or not at all, names what could not be written, sweeps what the dead left."""

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from uuid import uuid4

log = logging.getLogger(__name__)

ABANDONED = 86_400.0  # seconds untouched after which a draft of an unknown writer is nobody's
FULL = 1 << 20  # bytes: a disk with less than this left is called full
ELSEWHERE = "choose a folder you may write to"
FIXES = {
    errno.ENOSPC: "free some space on that disk, or choose another folder",
    errno.EDQUOT: "free some of your quota, or choose another folder",
    errno.EROFS: "it is mounted read-only; " + ELSEWHERE,
    errno.EACCES: ELSEWHERE,
    errno.EPERM: ELSEWHERE,
    errno.EFBIG: "the file system, or a limit (`ulimit -f`), takes no file this large;"
    " choose another folder",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ENOTDIR: "a part of its path is a file; choose another folder",
    errno.EEXIST: "a part of its path is a file; choose another folder",
    errno.EISDIR: "a folder has that name; remove it or choose another name",
}
SAFE = "nothing half-written is left, what was finished before stays"
# Of writing alone: with others the name of the file decides whether reading or writing failed.
_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_DRAFT = re.compile(r"\.(?P<owner>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}\.part")
_OLDER = re.compile(r"\.[0-9a-f]{32}\.part")  # as versions before this one named them
_swept: set[Path] = set()  # folders, once a process


class CannotWrite(OSError):
    """A file or folder that cannot be written; the message names it, the reason and the fix."""


class NotPermitted(CannotWrite, PermissionError):
    """As CannotWrite, for want of rights."""


@contextmanager
def writing(
    path: Path, fix: str = "", kept: str = SAFE, *, draft: Path | None = None
) -> Iterator[None]:
    """Within the block, what the system refuses is raised as CannotWrite that names `path`.

    `draft` is the name it has until it is whole; `fix` takes the place of the general advice for
    the fault, `kept` says what is safe. Torch and safetensors tell of a full disk in classes and
    words of their own, which count too. An error that names another file, such as one being copied
    from, and any other error pass as they are.
    """
    try:
        yield
    except CannotWrite:
        raise
    except Exception as error:
        code = _find_errno(error, {path, draft, *path.parents})
        if code is None and not isinstance(error, OSError):
            code = _parse_errno(error, path.parent)
        if code is None:
            raise
        raise cannot_write(path, code, fix, kept) from error


def cannot_write(path: Path, code: int, fix: str = "", kept: str = SAFE) -> CannotWrite:
    """The error for a file that cannot be written, by errno, to be raised."""
    kind = NotPermitted if code in (errno.EACCES, errno.EPERM) else CannotWrite
    advice = fix or FIXES.get(code, "look at the disk, or choose another folder")
    error = kind(f"{path}: cannot be written ({os.strerror(code)}); {advice}; {kept}")
    error.errno = code
    return error


def _find_errno(error: Exception, ours: Collection[Path | None]) -> int | None:
    """The errno of a failed write of one of our paths; None for anything else."""
    if not isinstance(error, OSError):
        return None
    filename = error.filename or error.filename2
    if filename is None or error.errno in _WRITING:
        return error.errno
    return error.errno if Path(os.fsdecode(filename)) in ours else None


def _parse_errno(error: Exception, folder: Path) -> int | None:
    """The errno that a library's own class has in its words; None where it is no failed write."""
    if isinstance(error, ValueError | LookupError | TypeError):
        return None
    if match := re.search(r"\(os error (\d+)\)|\bcode: (\d+),", str(error)):
        return int(match[1] or match[2])
    if re.search(r"PytorchStreamWriter|inline_container|iostream error|unexpected pos", str(error)):
        return errno.ENOSPC if _is_full(folder) else errno.EIO
    return None


def _is_full(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(folder).free < FULL
    return False


@contextmanager
def replacing(path: Path, fix: str = "", kept: str = SAFE) -> Iterator[Path]:
    """A temporary path in the same folder that becomes `path` when the block ends well.

    Whatever happens, no half file is left under either name; one that a killed program left is
    removed on the way. Raises CannotWrite (as `writing`) where the system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        kind = NotPermitted if isinstance(error, PermissionError) else CannotWrite
        advice = fix or FIXES.get(error.errno or 0, "choose another folder")
        raise kind(f"{path}: its folder cannot be made ({error.strerror}); {advice}") from error
    sweep(path.parent)
    draft = path.with_name(draft_name())
    try:
        with writing(path, fix, kept, draft=draft):
            yield draft
            draft.replace(path)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)


def draft_name() -> str:
    """A new name for a file or folder that is not whole yet, by which `sweep` knows its writer.

    Free of the target's own name: that may already have all 255 bytes.
    """
    return f".{_hash_owner()}-{os.getpid()}-{uuid4().hex[:8]}.part"


def may_write(path: Path) -> bool:
    """Whether a file may be written, or files made in a folder, as far as rights tell.

    Nothing is written to find out.
    """
    mode = os.W_OK | os.X_OK if path.is_dir() else os.W_OK
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def sweep(folder: Path) -> int:
    """Remove the drafts that killed writers left in a folder; how many. Once a process and folder.

    A writer is dead for certain where it ran under this system (host, boot and process namespace)
    and no process has its number any more. Of others, on a shared disk, only age tells: a draft
    that nobody touched for a day.
    """
    if folder in _swept:
        return 0
    _swept.add(folder)
    removed = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".part") and _is_abandoned(entry):
                with contextlib.suppress(OSError):
                    remove = shutil.rmtree if entry.is_dir(follow_symlinks=False) else os.unlink
                    remove(entry.path)
                    removed += 1
    if removed:
        log.info("removed %d half-written files of killed programs from %s", removed, folder)
    return removed


def _is_abandoned(entry: "os.DirEntry[str]") -> bool:
    match = _DRAFT.fullmatch(entry.name)
    if match is None and _OLDER.fullmatch(entry.name) is None:
        return False
    try:
        if entry.is_symlink():
            return False
        if match and match["owner"] == _hash_owner() and not _is_running(int(match["pid"])):
            return True
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > ABANDONED
    except OSError:  # renamed or removed meanwhile
        return False


def _is_running(pid: int) -> bool:
    """Whether a process of this system has the number; True where the system cannot be asked."""
    if os.name == "nt":  # there signal 0 ends the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


@cache
def _hash_owner() -> str:
    """Eight letters for this host, boot and process namespace: where a process number means one."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # Linux alone has them
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text("utf8"))
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.blake2b("|".join(parts).encode(), digest_size=4).hexdigest()
