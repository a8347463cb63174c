"""What a time line shows of a video's mask, from its drafts, its note and its record."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from frisket.maskgen.files.by_hand import read_frames_noted
from frisket.maskgen.files.drafts import DraftNote
from frisket.maskgen.files.record import MaskRecord
from frisket.studio.documents.reels import SavedFrames
from frisket.studio.documents.video import VideoDocument
from frisket.studio.footage.saving import open_reel, write_reel
from frisket.studio.footage.trackers import find_tracker, list_trackers
from frisket.studio.footage.tracking import (
    BEFORE,
    TrackOrder,
    TrackRuns,
    find_runs,
    undo_tracking,
)
from frisket.studio.state import Studio

__all__ = [
    "TrackRuns",
    "describe_timeline",
    "find_runs",
    "keep_shares",
    "list_blend_args",
    "list_measure_args",
    "list_pick_args",
    "open_reel",
    "start_tracking",
    "undo_tracking",
    "write_reel",
]


@dataclass(frozen=True, slots=True)
class FrameMarks:
    """Whose each frame is: `tracked` with how sure, 0 to 1."""

    painted: list[int]
    tracked: dict[int, float]
    blended: list[int]


def describe_timeline(studio: Studio, clip_id: str) -> dict[str, Any]:
    """The lanes as JSON: frames as numbers, shares and confidences in [0, 1]."""
    document = open_reel(studio, clip_id)
    reel = document.reel
    notes, saved = reel.drafts.list_notes(), reel.load_saved()
    record = _read_record(document)
    saved_here = saved.stamp == document.stamp
    marks = _list_marks(document, notes, saved if saved_here else _read_marks(record))
    run = find_runs(studio).by_clip.get(clip_id)
    shares = saved.shares if saved_here else {}
    return {
        "frames": document.size.frames,
        "fps": document.size.fps,
        "painted": marks.painted,
        "tracked": {str(frame): confidence for frame, confidence in marks.tracked.items()},
        "blended": marks.blended,
        "waiting": sorted(notes),
        "confidence": list(record.by_frame) if record else [],
        "worst": record.worst if record else None,
        "shares": {str(number): row for number, row in shares.items()} or None,
        "waiting_shares": {str(frame): note.shares for frame, note in notes.items()},
        "still": document.still,
        "masked": bool(document.place.files),
        "tracking": run.describe() if run else None,
        "trackers": list_trackers(studio, document.clip),
        "undo": (reel.folder / BEFORE / "range").is_file(),
    }


def _read_marks(record: MaskRecord | None) -> SavedFrames:
    """What a record says of frames, where the studio's own note is of another file."""
    if record is None:
        return SavedFrames()
    return SavedFrames(painted=list(record.painted), tracked=dict(record.tracked))


def _list_marks(
    document: VideoDocument, notes: Mapping[int, DraftNote], saved: SavedFrames
) -> FrameMarks:
    """Drafts before what is in the file."""
    tracked = {
        frame: confidence for frame, confidence in saved.tracked.items() if frame not in notes
    }
    tracked |= {
        frame: note.confidence or 0.0 for frame, note in notes.items() if note.maker == "tracked"
    }
    blended = {*saved.blended} - {*notes}
    blended |= {frame for frame, note in notes.items() if note.maker == "blended"}
    painted = document.reel.list_painted(saved, notes)
    return FrameMarks(sorted(painted), dict(sorted(tracked.items())), sorted(blended))


def _read_record(document: VideoDocument) -> MaskRecord | None:
    place = document.place
    if place.store is None:
        return None
    try:
        path = place.store.record(place.name)
    except ValueError:  # a clip named as the legend has no record
        return None
    return read_frames_noted(path)


def list_measure_args(studio: Studio, clip_id: str) -> dict[str, Any]:
    """What `footage.measure` is asked."""
    return {"footage": open_reel(studio, clip_id).describe_footage()}


def keep_shares(studio: Studio, clip_id: str, shares: dict[str, list[float]]) -> None:
    """Keep what was measured with the file it was measured of."""
    document = open_reel(studio, clip_id)
    with document.reel.lock:
        saved, stamp = document.reel.load_saved(), document.stamp
        if saved.stamp != stamp:
            saved = SavedFrames(base=stamp, stamp=stamp, installing=saved.installing)
        measured_shares = {int(number): row for number, row in shares.items()}
        document.reel.save(saved.model_copy(update={"shares": measured_shares}))


def list_blend_args(studio: Studio, clip_id: str, first: int, last: int) -> dict[str, Any]:
    """What `footage.blend` is asked: frames a hand painted stay."""
    document = open_reel(studio, clip_id)
    if not 0 <= first < last < document.size.frames or last - first < 2:
        raise ValueError(f"between the frames {first} and {last} lies none to draw")
    notes, saved = document.reel.drafts.list_notes(), document.reel.load_saved()
    painted_frames = sorted(document.reel.list_painted(saved, notes))
    footage = document.describe_footage()
    return {"footage": footage, "first": first, "last": last, "kept": painted_frames}


def list_pick_args(studio: Studio, clip_id: str) -> dict[str, Any] | None:
    """What `footage.picks` is asked; None for a clip of no configuration."""
    clip = studio.workspace.get_clip(clip_id)
    clip_set = studio.workspace.get_set(clip.set_id)
    if clip_set.config is None:
        return None
    return {"config": str(clip_set.config), "number": clip_set.index, "clip": str(clip.path)}


async def start_tracking(studio: Studio, clip_id: str, body: Any) -> dict[str, Any]:
    """Begin what a request asks for; ValueError for a tracker whose folder is not known."""
    model, device = find_tracker(studio, studio.workspace.get_clip(clip_id), body.tracker)
    order = TrackOrder(
        body.first, body.last, body.direction, tuple(body.keys), body.tracker, model, device
    )
    tracking = await find_runs(studio).start(studio, clip_id, order)
    return tracking.describe()
