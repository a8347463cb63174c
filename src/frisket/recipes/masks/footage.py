"""The mask of one video, frame by frame: read, painted over, carried on, written as it was."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frisket.maskgen.files.drafts import (
    DraftFolder,
    FrameDraft,
    TrackDirection,
    load_draft,
    share_out,
    write_png,
)
from frisket.maskgen.files.frame_codes import FrameCode, LevelPlane, fit_levels, pack_levels
from frisket.maskgen.tracking.flow import blend_labels
from frisket.maskgen.tracking.propagate import Carrier, plan_stretches, propagate
from frisket.media.frames import BadMedia, probe, stream, writing_labels
from frisket.media.paths import VIDEOS, frames_in, replacing
from frisket.media.seeking import FrameReader, open_reader

ReportFrame = Callable[[int, int, float], None]  # frame, how many are done, its confidence
OpenReader = Callable[[Path], FrameReader]


@dataclass(frozen=True, slots=True)
class MaskFootage:
    """The mask of a clip: its files by key ("" or a region), and what their numbers stand for."""

    clip: Path
    frames: int
    height: int
    width: int
    fps: float
    code: FrameCode
    files: Mapping[str, Path] = field(default_factory=dict)  # that are there
    drafts: DraftFolder | None = None

    @staticmethod
    def parse(tree: Mapping[str, Any]) -> "MaskFootage":
        """A mask as the server names it."""
        return MaskFootage(
            Path(tree["clip"]),
            int(tree["frames"]),
            int(tree["height"]),
            int(tree["width"]),
            float(tree["fps"]),
            FrameCode.parse(tree["code"]),
            {key: Path(path) for key, path in tree["files"].items()},
            DraftFolder(Path(tree["drafts"])) if tree.get("drafts") else None,
        )

    def read_planes(self, frame: int, open_file: OpenReader) -> dict[str, LevelPlane]:
        """The planes of a frame as the files have it; blank for a file that is not there.

        BadMedia where a file cannot be read this way.
        """
        return {key: self._read_plane(key, frame, open_file) for key in self.code.keys}

    def _read_plane(self, key: str, frame: int, open_file: OpenReader) -> LevelPlane:
        path = self.files.get(key)
        if path is None:
            return np.full((self.height, self.width), self.code.blank, np.uint8)
        at = frame if is_moving(path) else 0
        return self._fit(path, open_file(path).read(at))

    def _fit(self, path: Path, plane: NDArray[Any]) -> LevelPlane:
        try:
            levels = pack_levels(plane)
        except ValueError as error:
            raise BadMedia(f"{path}: {error}; number its regions anew") from error
        return fit_levels(levels, self.height, self.width)

    def stream_planes(self, key: str) -> Iterator[LevelPlane]:
        """One file frame by frame, in order; blank where there is none, a still for all frames.

        BadMedia where it has another number of frames than the clip.
        """
        path = self.files.get(key)
        if path is None:
            yield from repeat(self._read_plane(key, 0, open_reader), self.frames)
            return
        media = probe(path)
        if not media.video:
            plane = self._read_plane(key, 0, lambda it: open_reader(it, self.code.reading))
            yield from repeat(plane, self.frames)
            return
        if media.frames != self.frames:
            raise BadMedia(
                f"{path} has {media.frames} frames but its clip {self.clip} has {self.frames}:"
                " make one mask frame for every frame of the clip"
            )
        for frame in stream(path, self.code.reading):
            yield self._fit(path, frame.numpy())

    def read_ids(self, frame: int, open_file: OpenReader) -> LevelPlane:
        """Region ids H W of a frame, the draft of it before what the file has."""
        draft = self.drafts.load(frame) if self.drafts else None
        planes = draft.read_planes() if draft else self.read_planes(frame, open_file)
        return self.code.to_ids(planes)


def is_moving(path: Path) -> bool:
    """Whether a mask file has frames; a still stands for all frames of its clip."""
    return path.is_dir() or path.suffix.lower() in VIDEOS or probe(path).video


@dataclass(slots=True)
class FrameShares:
    """How much of each frame each id covers, 0 to 1, frame by frame."""

    shares: dict[int, list[float]] = field(default_factory=dict)
    frames: int = 0

    def add(self, ids: LevelPlane) -> None:
        """Count the next frame."""
        shares_here = share_out(ids)
        for number in shares_here:
            self.shares.setdefault(number, [0.0] * self.frames)
        for number, shares in self.shares.items():
            shares.append(shares_here.get(number, 0.0))
        self.frames += 1

    def dump(self) -> dict[str, list[float]]:
        """As JSON: id to shares."""
        return {str(number): shares for number, shares in sorted(self.shares.items())}


def measure_coverage(footage: MaskFootage, report: ReportFrame) -> FrameShares:
    """The coverage of every frame, as the files have it; drafts are not looked at."""
    coverage = FrameShares()
    streams = [footage.stream_planes(key) for key in footage.code.keys]
    for frame, planes in enumerate(zip(*streams, strict=True)):
        coverage.add(footage.code.to_ids(dict(zip(footage.code.keys, planes, strict=True))))
        report(frame, frame + 1, 1.0)
    return coverage


def write_footage(
    footage: MaskFootage,
    targets: Mapping[str, Path],
    drafts: Mapping[int, Path],
    comment: str,
    report: ReportFrame,
) -> FrameShares:
    """Write the whole mask as label or grey videos, drafts laid over what the files have.

    `targets` are the new files by key, .mkv; they appear whole or not at all, each by itself. The
    label video is what `frisket masks` would write of the same frames, bit for bit. Returns what
    they cover. BadMedia and BadDraft name what cannot be read.
    """
    coverage = FrameShares()
    streams = {key: footage.stream_planes(key) for key in footage.code.keys}
    with ExitStack() as stack:
        adding = {
            key: stack.enter_context(writing_labels(targets[key], footage.fps, comment)).append
            for key in streams
        }
        for frame in range(footage.frames):
            planes = {key: next(frames) for key, frames in streams.items()}
            if frame in drafts:
                painted = load_draft(drafts[frame]).read_planes()
                planes |= {
                    key: fit_levels(plane, footage.height, footage.width)
                    for key, plane in painted.items()
                    if key in planes
                }
            for key, add in adding.items():
                add(planes[key])
            coverage.add(footage.code.to_ids(planes))
            report(frame, frame + 1, 1.0)
        for key, frames in streams.items():
            if next(frames, None) is not None:  # reads to the end: a broken tail is said
                raise BadMedia(f"{footage.files[key]} has more frames than its clip")
    return coverage


def write_frame_files(folder: Path, drafts: Mapping[int, Path]) -> None:
    """Put drafts in the place of the frames of a folder, each whole.

    BadMedia, before any is written, for a frame whose file is no PNG: another kind could lose
    what was painted.
    """
    paths = frames_in(folder)
    for frame in drafts:
        if frame >= len(paths):
            raise BadMedia(f"{folder}: has {len(paths)} frames, there is no frame {frame}")
        if paths[frame].suffix.lower() != ".png":
            raise BadMedia(
                f"{paths[frame]}: a painted frame is written as .png; save the masks of the folder"
                " as PNG"
            )
    for frame, path in drafts.items():
        (content,) = load_draft(path).pictures.values()
        with replacing(paths[frame]) as draft:
            draft.write_bytes(content)


@dataclass(frozen=True, slots=True)
class TrackRequest:
    """What is to be carried where: the frames from `first` to `last`, and not the `keys`."""

    keys: Sequence[int]
    first: int
    last: int
    direction: TrackDirection = "forward"


def track_footage(
    footage: MaskFootage,
    request: TrackRequest,
    carrier: Carrier,
    open_file: OpenReader,
    report: ReportFrame,
    is_wanted: Callable[[int], bool] = lambda _: True,
) -> list[tuple[int, float]]:
    """Carry the keyframes over a range, each frame into a draft as soon as it is known.

    Returns the frames and how sure they are. Keyframes stay as they are; so does a frame that
    `is_wanted` says no of by the time it is there. ValueError for an empty range or no keyframe.
    """
    drafts = footage.drafts
    if drafts is None:
        raise ValueError("tracked frames need a folder for their drafts")
    if request.last >= footage.frames:
        raise ValueError(f"frame {request.last} lies beyond the clip of {footage.frames} frames")
    stretches = plan_stretches(request.keys, request.first, request.last, request.direction)
    ends = {at for it in stretches for at in (it.before, it.after) if at is not None}
    keys = {at: footage.read_ids(at, open_file) for at in sorted(ends)}
    pictures = open_reader(footage.clip)

    def read(frame: int) -> NDArray[np.uint8]:
        return np.asarray(pictures.read(frame), np.uint8)

    tracked: list[tuple[int, float]] = []
    for carried in propagate(read, keys, stretches, carrier):
        if not is_wanted(carried.frame):
            continue
        note = drafts.list_notes().get(carried.frame)
        confidence = round(carried.confidence, 3)
        planes = footage.code.from_ids(carried.labels)
        pngs = {key: write_png(plane) for key, plane in planes.items()}
        number = note.number + 1 if note else 1
        shares = share_out(carried.labels)
        drafts.save(FrameDraft(carried.frame, pngs, "tracked", confidence, number, shares))
        tracked.append((carried.frame, confidence))
        report(carried.frame, len(tracked), confidence)
    return tracked


def blend_footage(
    footage: MaskFootage, first: int, last: int, open_file: OpenReader, kept_frames: Sequence[int]
) -> list[int]:
    """Draw the frames between two, region by region on the way from one shape to the other.

    Drafts of `kept_frames` are left alone. Returns the frames drawn.
    """
    drafts = footage.drafts
    if drafts is None or not 0 <= first < last < footage.frames:
        raise ValueError(f"frames {first} to {last} are no range of {footage.frames} frames")
    start, end = (footage.read_ids(frame, open_file) for frame in (first, last))
    drawn_frames = []
    for frame in range(first + 1, last):
        if frame in kept_frames:
            continue
        ids = blend_labels(start, end, (frame - first) / (last - first))
        note = drafts.list_notes().get(frame)
        pngs = {key: write_png(plane) for key, plane in footage.code.from_ids(ids).items()}
        number = note.number + 1 if note else 1
        drafts.save(FrameDraft(frame, pngs, "blended", None, number, share_out(ids)))
        drawn_frames.append(frame)
    return drawn_frames
