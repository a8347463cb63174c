"""What is written down beside each mask: how it was made, how sure it is, and whether it holds."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import FiniteFloat, TypeAdapter, ValidationError

import frisket
from frisket.disk.atomic import replacing
from frisket.disk.hashing import hash_file
from frisket.disk.untrusted import BadText, cut, parse_json, read_text, show

VERSION = 1
IMPORTED = "imported"  # key of settings: the masks came from another tool

Status = Literal["done", "unsure", "nothing", "failed"]
State = Literal["fresh", "done", "stale", "hand"]
VerdictKind = Literal["accepted", "rejected"]


class BadMaskRecord(ValueError):
    """A record that cannot be read; the message names the file, the fault and the fix."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file as it was, enough to tell whether it still is."""

    name: str  # of a clip its file name; of a mask its path below the mask folder, "/" between
    sha256: str
    bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path, name: str = "") -> "Stamp":
        """The stamp of a file as it is now, by its own name or another."""
        stat = path.stat()
        return cls(name or path.name, hash_file(path), stat.st_size, stat.st_mtime_ns)

    def holds(self, path: Path) -> bool:
        """Whether `path` has the content stamped; it is hashed only where its time differs."""
        if not path.is_file():
            return False
        stat = path.stat()
        if stat.st_size != self.bytes:
            return False
        return stat.st_mtime_ns == self.mtime_ns or hash_file(path) == self.sha256


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A backend that took part, where its weights came from, and what both may be used under."""

    name: str
    source: str = ""  # folder or hub id; empty where there are no weights
    revision: str = ""  # of the hub, or a fingerprint of the folder
    code_licence: str = ""
    weights_licence: str = ""


@dataclass(frozen=True, slots=True)
class DetectionRecord:
    """What one region came to."""

    share: FiniteFloat  # of the clip's pixels, all frames, in [0, 1]
    score: FiniteFloat | None = None  # the model's own, in [0, 1]; None where it tells none
    confidence: FiniteFloat | None = None  # ours, in [0, 1]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MaskVerdict:
    """What a person said of the mask, when, and which status it had before (`files.verdicts`)."""

    kind: VerdictKind
    when: str
    was: Status


@dataclass(frozen=True, slots=True)
class MaskRecord:
    """Everything known of one clip's masks. `settings` shaped them, and `key` is their hash."""

    clip: Stamp
    frames: int
    height: int
    width: int
    status: Status
    settings: Mapping[str, Any]
    key: str
    masks: tuple[Stamp, ...] = ()  # the label map first, then soft planes; none where none came
    legend: Mapping[str, int] = field(default_factory=dict)  # region to index in the label map
    regions: Mapping[str, DetectionRecord] = field(default_factory=dict)
    models: tuple[ModelRecord, ...] = ()
    thresholds: Mapping[str, FiniteFloat] = field(default_factory=dict)
    confidence: FiniteFloat | None = None  # of the whole clip, in [0, 1]
    worst: int | None = None  # frame of a video that is least sure
    by_frame: tuple[FiniteFloat, ...] = ()  # confidence of each frame of a video, as it was made
    painted: tuple[int, ...] = ()  # frames of a video that a hand painted
    tracked: tuple[tuple[int, FiniteFloat], ...] = ()  # frames carried from those, and how sure
    notes: tuple[str, ...] = ()  # for the reader: why unsure, what failed
    seconds: FiniteFloat = 0.0
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    verdict: MaskVerdict | None = None
    frisket: str = frisket.__version__
    version: int = VERSION


_READER = TypeAdapter(MaskRecord)


def key_of(settings: Mapping[str, Any]) -> str:
    """A hash of settings, the same in any order of keys; ValueError where they are not JSON."""
    try:
        text = json.dumps(settings, sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ValueError(f"settings of a mask must be JSON ({error}): {settings}") from error
    return hashlib.sha256(text.encode()).hexdigest()


def save(record: MaskRecord, path: Path) -> None:
    """Write a record as JSON, atomically. ValueError for a number that is not finite."""
    try:
        text = json.dumps(asdict(record), allow_nan=False, ensure_ascii=False, indent=1)
    except ValueError as error:
        raise ValueError(f"{path}: a record holds finite numbers only ({error})") from error
    with replacing(path) as draft:
        draft.write_text(text + "\n", encoding="utf-8")


def load(path: Path) -> MaskRecord | None:
    """The record of a mask, None where there is none; BadMaskRecord where it is damaged."""
    fix = "remove it, and its mask counts as painted by hand until it is made anew (--overwrite)"
    try:
        text = read_text(path)
    except FileNotFoundError:
        return None
    except BadText as error:
        raise BadMaskRecord(f"{path}: a record that {error}; {fix}") from error
    try:
        document = parse_json(text)
    except BadText as error:
        raise BadMaskRecord(f"{path}: a record that is not JSON ({error}); {fix}") from error
    if not isinstance(document, dict) or document.get("version") != VERSION:
        version = document.get("version") if isinstance(document, dict) else type(document).__name__
        raise BadMaskRecord(
            f"{path}: no mask record of version {VERSION} (found {show(version)}); read it with"
            f" the Frisket that wrote it, or {fix}"
        )
    try:
        record = _READER.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = cut(".".join(map(str, first["loc"])), 80)
        raise BadMaskRecord(f"{path}: {place}: {cut(first['msg'].lower())}; {fix}") from error
    outside = next((stamp.name for stamp in record.masks if not _is_below(stamp.name)), None)
    if outside is not None:  # a mask that is made anew takes the place of those recorded
        raise BadMaskRecord(f"{path}: names the mask {show(outside)} outside its folder; {fix}")
    return record


def _is_below(name: str) -> bool:
    """Whether a path of a record stays below its folder, on any system."""
    parts = name.replace("\\", "/").split("/")
    return (
        bool(name) and not {"", "..", "."} & {*parts} and ":" not in parts[0] and "\0" not in name
    )


def state(record: MaskRecord | None, *, clip: Path, masks: Mapping[str, Path], key: str) -> State:
    """What is to be done with a clip, from its record and the mask files that are there now.

    `masks` is what the store's `present` gives: path below the mask folder to file, of any kind.
      hand   a mask without a record, changed since, or imported: somebody's work, leave it alone;
      done   same clip content, same settings (`key`), every recorded mask there and unchanged;
      stale  made by Frisket and not so any more, or failed: make it again;
      fresh  nothing is there.
    """
    stamps = {stamp.name: stamp for stamp in record.masks} if record else {}
    for name, path in masks.items():
        if name not in stamps or not stamps[name].holds(path):
            return "hand"
    if record is None:
        return "fresh"
    if masks and IMPORTED in record.settings:
        return "hand"
    complete = record.status != "failed" and stamps.keys() <= masks.keys()
    return "done" if complete and _is_current(record, clip, key) else "stale"


def _is_current(record: MaskRecord, clip: Path, key: str) -> bool:
    """Whether settings and content of the clip are those it was made with."""
    return record.key == key and record.clip.holds(clip)
