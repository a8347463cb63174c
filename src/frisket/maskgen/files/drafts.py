"""Single frames of a video's mask, kept until the whole file is written. Needs no torch."""

import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frisket.disk.atomic import replacing
from frisket.disk.untrusted import BadText, parse_json

META = "meta.json"
LARGEST = 1 << 30  # bytes of one plane, unpacked
TrackDirection = Literal["forward", "backward", "both"]
Maker = Literal["hand", "tracked", "blended"]
_FIELDS = ("frame", "maker", "confidence", "number", "shares", "when")
_NAME = re.compile(r"(\d{8})\.zip")


class BadDraft(ValueError):
    """A draft that the studio did not write; names the file and what to do."""


@dataclass(frozen=True, slots=True)
class FrameDraft:
    """One frame as it is to be in the file.

    `pictures` are PNGs by key, as a still mask would be written: of labels, grey levels or colours;
    the key is "" for one file, else a region's. `number` rises with every change of the frame.
    """

    frame: int
    pictures: Mapping[str, bytes]
    maker: Maker = "hand"
    confidence: float | None = None  # of a frame that was tracked, in [0, 1]
    number: int = 1
    shares: Mapping[int, float] = field(default_factory=dict)  # of the frame, by region id
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def read_planes(self) -> dict[str, NDArray[np.uint8]]:
        """H W, or H W 3 of colours, by key."""
        return {key: read_png(content) for key, content in self.pictures.items()}


@dataclass(frozen=True, slots=True)
class DraftNote:
    """What is known of a draft without its pixels."""

    frame: int
    maker: Maker
    confidence: float | None
    number: int
    shares: Mapping[int, float]
    keys: tuple[str, ...]  # the files it has pictures for
    stamp: tuple[int, int]  # of its file: when it was written, and its bytes


@dataclass(slots=True)
class DraftFolder:
    """The drafts of one clip, a file a frame; each is whole or not there."""

    folder: Path
    _notes: dict[int, DraftNote] = field(default_factory=dict)

    def list_notes(self) -> dict[int, DraftNote]:
        """The drafts there are, by frame; files are opened again only where they changed."""
        notes: dict[int, DraftNote] = {}
        for frame, entry in sorted(self._list_files()):
            stat = entry.stat()
            stamp = stat.st_mtime_ns, stat.st_size
            known_note = self._notes.get(frame)
            notes[frame] = (
                known_note if known_note and known_note.stamp == stamp else self._note(frame, stamp)
            )
        self._notes = dict(notes)
        return notes

    def load(self, frame: int) -> FrameDraft | None:
        """The draft of a frame; None where there is none, BadDraft where it cannot be read."""
        path = self.locate(frame)
        return load_draft(path) if path.is_file() else None

    def save(self, draft: FrameDraft) -> None:
        """Write a draft whole, in place of the frame's earlier one; it survives a crash."""
        meta = {
            "frame": draft.frame,
            "keys": list(draft.pictures),
            "maker": draft.maker,
            "confidence": draft.confidence,
            "number": draft.number,
            "shares": {str(region): share for region, share in draft.shares.items()},
            "when": draft.when,
        }
        with replacing(self.locate(draft.frame)) as path:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr(META, json.dumps(meta))
                for place, content in enumerate(draft.pictures.values()):
                    archive.writestr(str(place), content)
            with path.open("rb") as stream:
                os.fsync(stream.fileno())

    def drop(self, frame: int, number: int | None = None) -> None:
        """Remove the draft of a frame; where a `number` is given, only if it is still that one."""
        path = self.locate(frame)
        if number is not None:
            note = self.list_notes().get(frame)
            if note is None or note.number != number:
                return
        path.unlink(missing_ok=True)

    def locate(self, frame: int) -> Path:
        """Where the draft of a frame lies."""
        return self.folder / f"{frame:08}.zip"

    def _list_files(self) -> Iterator[tuple[int, Path]]:
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if match := _NAME.fullmatch(path.name):
                    yield int(match[1]), path

    def _note(self, frame: int, stamp: tuple[int, int]) -> DraftNote:
        meta = _read_meta(self.locate(frame))
        fields = {name: meta[name] for name in ("maker", "confidence", "number", "shares")}
        return DraftNote(frame, stamp=stamp, keys=tuple(map(str, meta["keys"])), **fields)


def load_draft(path: Path) -> FrameDraft:
    """A draft by its file; BadDraft where it cannot be read."""
    meta = _read_meta(path)
    try:
        with zipfile.ZipFile(path) as archive:
            keys = enumerate(meta["keys"])
            pictures = {str(key): archive.read(str(place)) for place, key in keys}
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise _refuse(path, error) from error
    fields = {name: meta[name] for name in _FIELDS}
    return FrameDraft(pictures=pictures, **fields)


def _read_meta(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            if any(info.file_size > LARGEST for info in archive.infolist()):
                raise ValueError("too large")
            meta = parse_json(archive.read(META))
        if not isinstance(meta, dict) or meta["maker"] not in ("hand", "tracked", "blended"):
            raise ValueError("no maker")
        meta["confidence"] = None if meta["confidence"] is None else float(meta["confidence"])
        shares = {int(region): float(share) for region, share in meta["shares"].items()}
        numbers = {"frame": int(meta["frame"]), "number": int(meta["number"])}
        return {**meta, **numbers, "shares": shares, "when": str(meta["when"])}
    except (
        zipfile.BadZipFile,
        BadText,
        LookupError,
        AttributeError,
        TypeError,
        ValueError,
        OSError,
    ) as error:
        raise _refuse(path, error) from error


def _refuse(path: Path, error: Exception) -> BadDraft:
    return BadDraft(f"{path}: a painted frame that cannot be read ({error}); remove it")


def read_png(content: bytes) -> NDArray[np.uint8]:
    """A PNG of our own: palette indices or grey levels H W, or colours H W 3."""
    with Image.open(BytesIO(content), formats=["PNG"]) as image:
        image.load()
        return np.asarray(image, np.uint8)


def write_png(plane: NDArray[np.uint8]) -> bytes:
    """A plane H W, or H W 3, as PNG without palette."""
    stream = BytesIO()
    Image.fromarray(plane).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def share_out(ids: NDArray[np.uint8]) -> dict[int, float]:
    """How much of a frame each id covers, 0 to 1."""
    counts = np.bincount(ids.ravel())
    return {int(it): round(float(counts[it] / ids.size), 5) for it in np.flatnonzero(counts)}
