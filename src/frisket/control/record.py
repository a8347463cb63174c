"""What is written down beside each control picture: how it was made, and whether it still holds."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from frisket.disk.atomic import replacing
from frisket.disk.hashing import hash_file
from frisket.disk.untrusted import BadText, parse_json, read_text

VERSION = 1

ControlState = Literal["fresh", "done", "stale", "hand"]


class BadControlRecord(ValueError):
    """A record that cannot be read; the message names the file, the fault and the fix."""


@dataclass(frozen=True, slots=True)
class FileStamp:
    """A file as it was, enough to tell whether it still is."""

    name: str
    sha256: str
    bytes: int
    mtime_ns: int

    @classmethod
    def read(cls, path: Path) -> "FileStamp":
        """The stamp of a file, or of a folder of frames, as it is now."""
        stat = path.stat()
        if path.is_dir():
            return cls(path.name, _hash_folder(path), 0, stat.st_mtime_ns)
        return cls(path.name, hash_file(path), stat.st_size, stat.st_mtime_ns)

    def holds(self, path: Path) -> bool:
        """Whether `path` has the content stamped; a file is hashed only where its time differs."""
        if path.is_dir():
            return _hash_folder(path) == self.sha256
        if not path.is_file() or path.stat().st_size != self.bytes:
            return False
        return path.stat().st_mtime_ns == self.mtime_ns or hash_file(path) == self.sha256


def _hash_folder(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{path.name}\0{hash_file(path)}\0".encode())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ControlRecord:
    """Everything known of one control picture. `key` is the hash of all that shaped it."""

    clip: FileStamp
    control: FileStamp
    kind: str
    key: str
    options: Mapping[str, float]
    source: str = ""  # the model's folder, where it has one
    fingerprint: str = ""  # of the model
    code_licence: str = ""
    weights_licence: str = ""
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    version: int = VERSION


def hash_settings(kind: str, rule: int, options: Mapping[str, float], fingerprint: str) -> str:
    """The hash of everything that shapes a control picture besides its clip."""
    settings = {
        "kind": kind,
        "rule": rule,
        "options": {name: float(value) for name, value in options.items()},
        "model": fingerprint,
    }
    text = json.dumps(settings, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def save_record(record: ControlRecord, path: Path) -> None:
    """Write a record as JSON, atomically."""
    with replacing(path) as draft:
        text = json.dumps(asdict(record), ensure_ascii=False, indent=1, allow_nan=False)
        draft.write_text(text + "\n", encoding="utf-8")


def load_record(path: Path) -> ControlRecord | None:
    """The record of a control picture, None where there is none; BadControlRecord if damaged."""
    fix = "remove it, and the picture counts as made by hand until it is made anew (--overwrite)"
    try:
        tree = parse_json(read_text(path))
    except FileNotFoundError:
        return None
    except BadText as error:
        raise BadControlRecord(f"{path}: a record that cannot be read ({error}); {fix}") from error
    if not isinstance(tree, dict) or tree.get("version") != VERSION:
        raise BadControlRecord(f"{path}: no control record of version {VERSION}; {fix}")
    try:
        clip, control = _parse_stamp(tree.pop("clip")), _parse_stamp(tree.pop("control"))
        record = ControlRecord(clip, control, **tree)
    except (KeyError, TypeError) as error:
        raise BadControlRecord(f"{path}: a control record lacks {error}; {fix}") from error
    return record


def _parse_stamp(tree: Any) -> FileStamp:
    stamp = FileStamp(**tree)
    for value, kind in ((stamp.name, str), (stamp.sha256, str), (stamp.bytes, int)):
        if not isinstance(value, kind):
            raise TypeError(f"a file's name, hash and size: {value!r}")
    return stamp


def find_state(
    record: ControlRecord | None, *, clip: Path, controls: Mapping[str, Path], key: str
) -> ControlState:
    """What is to be done with a clip, from its record and the files of its name that are there.

    hand   a file without a record, or changed since: somebody's work, leave it alone;
    done   same clip content, same settings (`key`), the file there and unchanged;
    stale  made by Frisket and not so any more: make it again;
    fresh  nothing is there.
    """
    if not controls:
        return "fresh"
    stamp = None if record is None else record.control
    if stamp is None or any(
        name != stamp.name or not stamp.holds(path) for name, path in controls.items()
    ):
        return "hand"
    assert record is not None
    return "done" if record.key == key and record.clip.holds(clip) else "stale"
