"""Faces as data: read once from the clean frames of a clip, cached, drawn from in training."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.data.cached.status import Entries
from frisket.data.cached.store import key_of
from frisket.data.faces.keypoints import (
    BadKeypoints,
    FacePoints,
    find_keypoints,
    pick_face,
    place_keypoints,
    read_keypoints,
)
from frisket.data.mask_pipeline import mask_record, planes_of
from frisket.data.records import Window
from frisket.grid import LatentGrid
from frisket.losses.faces import FaceMark, MarkRow
from frisket.media.frames import BadMedia, decode_stored
from frisket.progress import Progress

log = logging.getLogger(__name__)

RULE = 1  # goes into cache keys; count up when a step below changes


class NoFaces(ValueError):
    """Not one clip shows a face that could be compared; the message says why and what to do."""


@runtime_checkable
class ClipFaceReader(Protocol):
    """Finds faces and says whose they are; loaded when first called, let go by `unload`.

    `region` is whose mask says which face is meant. `record` names everything that changes what is
    read (embedder, its weights, references, detector): it is part of the cache keys.
    """

    region: str
    record: Mapping[str, Any]
    detects: bool  # whether `detect` finds any face

    def detect(self, picture: Float[Tensor, "3 H W"]) -> Sequence[FacePoints]:
        """The faces in one picture (in [-1, 1]), where no file says where they are."""
        ...

    def embed(self, picture: Float[Tensor, "3 H W"], points: FacePoints) -> Tensor | None:
        """The unit embedding a face is to be like, d; None for one too small to tell."""
        ...

    def unload(self) -> None:
        """Let go of what is loaded."""
        ...


@dataclass(slots=True)
class FaceEntries:
    """The faces of all clips of one `prepare`: which are known, and those still to be read."""

    entries: Entries
    grid: LatentGrid
    regions: tuple[str, ...]
    reader: ClipFaceReader
    progress: Progress
    bad: dict[str, str]  # file -> what is wrong with it; shared with the rest of `prepare`
    _jobs: dict[str, tuple[Window, Path | None]] = field(default_factory=dict)

    def plan(self, window: Window) -> str | None:
        """The key of a window's faces; None without a mask, or without any way to find some."""
        keypoints = find_keypoints(window.clip)
        if not window.masked or (keypoints is None and not self.reader.detects):
            return None
        points = None if keypoints is None else self.entries.index.content(keypoints)
        record = {
            "kind": "faces",
            "rule": RULE,
            "of": window.content,
            **mask_record(window, self.regions),
            "region": self.reader.region,
            "keypoints": points,
            "grid": [self.grid.spatial, self.grid.temporal],
            "reader": dict(self.reader.record),
        }
        key = key_of(record)
        if not self.entries.ready("faces", key):
            self._jobs[key] = (window, keypoints)
        return key

    def run(self) -> None:
        """Read what is not known, let the models go."""
        for count, (key, (window, keypoints)) in enumerate(self._jobs.items(), 1):
            self.entries.index.commit()  # never hold its lock while a model runs
            try:
                marks = self._read(window, keypoints)
            except BadMedia as error:
                self.bad[str(window.clip)] = str(error)
                continue
            except BadKeypoints as error:
                self.bad[str(keypoints or window.clip)] = str(error)
                continue
            self.entries.store("faces", key, pack_marks(marks))
            self.progress("faces", count, len(self._jobs))
        self._jobs.clear()
        self.reader.unload()

    def stop_if_none(self, keys: Sequence[str | None], source: str) -> None:
        """NoFaces where not one of the clips has a face; `source` names the data sets."""
        read_keys = [key for key in keys if key is not None]
        counts = [self._count(key) for key in read_keys]
        if any(counts):
            log.info("identity: %d of %d clips show the face", sum(map(bool, counts)), len(keys))
            return
        reason = (
            f"of {len(read_keys)} clips that were looked into none shows a face in the region"
            f" {self.reader.region!r} that is 20 pixels or larger"
            if read_keys
            else "no clip with a mask has key points beside it (name.keypoints.json)"
            + ("" if self.reader.detects else ", and losses.identity.detector is empty")
        )
        raise NoFaces(
            f"losses.identity has nothing to compare in {source}: {reason}. Write key points"
            " (docs/identity-loss), name a detector, or take the term out"
        )

    def _count(self, key: str) -> int:
        """How many faces an entry holds: as remembered, or as it says itself."""
        index, slot = self.entries.index, f"faces/{key}"
        known_count = index.get("facts", slot)
        if known_count is None:
            known_count = len(self.entries.cache.load("faces", key).tensors["frames"])
            index.put("facts", slot, known_count)
        return int(known_count)

    def _read(self, window: Window, keypoints: Path | None) -> MarkRow:
        """The faces in the last pixel frame of every latent frame."""
        picks = window.geometry.picks[:: self.grid.temporal]
        geometry = replace(window.geometry, picks=picks)
        plane = planes_of(replace(window, geometry=geometry), self.regions).get(self.reader.region)
        if plane is None:
            return ()
        pixels = geometry.pixels(decode_stored(window.clip, picks))
        noted = None if keypoints is None else read_keypoints(keypoints)
        marks: list[FaceMark] = []
        for frame, pick in enumerate(picks):
            picture = pixels[:, frame]
            if noted is None:
                faces = list(self.reader.detect(picture))
            else:
                faces = [
                    place_keypoints(points, geometry, noted.size, str(keypoints))
                    for points in noted.faces.get(pick, ())
                ]
            points = pick_face(faces, plane[frame])
            target = None if points is None else self.reader.embed(picture, points)
            if points is not None and target is not None:
                marks.append(FaceMark(frame, points, target))
        return tuple(marks)


def pack_marks(marks: MarkRow) -> dict[str, Tensor]:
    """Marks as the tensors of a cache entry; none give tensors of no rows."""
    if not marks:
        return {"frames": torch.zeros(0, dtype=torch.int64)}
    return {
        "frames": torch.tensor([mark.frame for mark in marks]),
        "keypoints": torch.stack([mark.keypoints for mark in marks]),
        "targets": torch.stack([mark.target for mark in marks]),
    }


def unpack_marks(tensors: Mapping[str, Tensor]) -> MarkRow:
    """The inverse of `pack_marks`."""
    frames = tensors["frames"].tolist()
    if not frames:
        return ()
    rows = zip(frames, tensors["keypoints"], tensors["targets"], strict=True)
    return tuple(FaceMark(*row) for row in rows)


def draw_marks(marks: MarkRow, count: int, chance: Callable[[str], float]) -> MarkRow:
    """At most `count` of a clip's marks, each subset as likely, in the order of the frames."""
    places, chosen_places = list(range(len(marks))), list[int]()
    for number in range(min(count, len(marks))):
        chosen_places.append(places.pop(int(chance(f"face {number}") * len(places))))
    return tuple(marks[place] for place in sorted(chosen_places))


def spread_marks(marks: MarkRow, count: int) -> MarkRow:
    """At most `count` of a clip's marks, evenly over it: for looks that repeat."""
    if len(marks) <= count:
        return marks
    return tuple(marks[(2 * number + 1) * len(marks) // (2 * count)] for number in range(count))
