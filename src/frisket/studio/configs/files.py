"""Reads and writes configuration files: a revision each, so that no change of others is lost."""

import hashlib
import re
from pathlib import Path

from frisket.disk.atomic import replacing
from frisket.disk.untrusted import read_text
from frisket.studio.workspace import UnknownId, make_id

NAME = re.compile(r"[\w][\w .()+-]{0,80}\.toml")


class ChangedMeanwhile(ValueError):
    """A file that somebody else has written since it was read; `text` is what it holds now."""

    def __init__(self, path: Path, text: str) -> None:
        """Keep what is there now, to be shown beside one's own."""
        super().__init__(
            f"{path.name} was changed by something else since it was opened here; look at both and"
            " choose"
        )
        self.text, self.revision = text, hash_text(text)


def hash_text(text: str) -> str:
    """The revision of a text."""
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def read_config(path: Path) -> tuple[str, str]:
    """Text and revision of a file. BadText or OSError where it cannot be read."""
    text = read_text(path)
    return text, hash_text(text)


def save_config(path: Path, text: str, revision: str) -> str:
    """Write the text whole over a file of that revision; the new one.

    ChangedMeanwhile where the file holds something else, CannotWrite where the disk refuses. What a
    file of another encoding mark had is left out as it is read: TOML is plain UTF-8.
    """
    text_there = read_text(path) if path.exists() else ""
    if hash_text(text_there) != revision:
        raise ChangedMeanwhile(path, text_there)
    with replacing(path) as draft:
        draft.write_bytes(text.encode())
    return hash_text(text)


def create_config(folder: Path, name: str, text: str) -> Path:
    """Write a new file into a folder. ValueError for a name that is none, or is taken."""
    name = name.strip() if name.strip().endswith(".toml") else f"{name.strip()}.toml"
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name for a configuration: letters, digits, spaces and . _ - ( ) +, at"
            " most 80, ending in .toml"
        )
    path = folder / name
    if path.exists() or path.is_symlink():
        raise ValueError(f"{name} is there already; choose another name")
    with replacing(path) as draft:
        draft.write_bytes(text.encode())
    return path


def find_config(root: Path, config_id: str) -> Path:
    """A configuration in the opened folder by its id; UnknownId where there is none.

    One that is no TOML at the moment is found too, to be mended.
    """
    for path in sorted(root.glob("*.toml")):
        if make_id("config", path.name) == config_id and path.is_file():
            return path
    raise UnknownId(f"there is no configuration {config_id[:40]!r} here; it may have been renamed")
