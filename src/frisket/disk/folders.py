"""Folders written whole or not at all, and files that are put into them without a second copy."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from frisket.disk.atomic import SAFE, draft_name, sweep, writing


@contextmanager
def replace_folder(path: Path, fix: str = "", harm: str = SAFE) -> Iterator[Path]:
    """A new, empty folder beside `path` that takes its place when the block ends well.

    Where the block fails the folder that was there stays. A folder can only be renamed over an
    empty one, so that the old one is set aside first: a kill between the two renames leaves it
    under a draft's name. Raises CannotWrite (as `atomic.writing`) where the system refuses.
    """
    path = path.absolute()
    draft, old_folder = path.with_name(draft_name()), path.with_name(draft_name())
    try:
        with writing(path, fix, harm, draft=draft):
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            draft.mkdir()
            yield draft
            if path.exists():
                path.replace(old_folder)
            draft.replace(path)
    except BaseException:
        if old_folder.exists() and not path.exists():
            with contextlib.suppress(OSError):
                old_folder.replace(path)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        if path.exists():
            shutil.rmtree(old_folder, ignore_errors=True)


def share_file(source: Path, target: Path) -> bool:
    """Give a file a second name, or copy it where the two lie on different disks.

    True where it was copied. A link in `source` is followed: the target is a file of its own name,
    which stays when the source's name goes. OSError as of `os.link` and `shutil.copyfile`.
    """
    source = source.resolve()
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)  # its error says what is wrong with either
        return True
    return False
