"""Masks of videos for the page: frames read, whole files written, corrections carried on."""

from pathlib import Path
from typing import Any

import numpy as np

from frisket.maskgen.tracking.propagate import Carrier
from frisket.media.seeking import FrameReader, open_reader
from frisket.recipes.masks.footage import (
    MaskFootage,
    OpenReader,
    ReportFrame,
    TrackRequest,
    blend_footage,
    measure_coverage,
    track_footage,
    write_footage,
)
from frisket.recipes.masks.track import load_carrier
from frisket.recipes.serve.session import Answer, Operation, Session

HELD_BYTES = 16 << 20  # bytes of frames a reader of masks keeps: every frame of ours is whole
OFTEN = 8  # frames between two words of progress of what is quick


def read_frame(session: Session, args: dict[str, Any]) -> Answer:
    """{footage, frame}: the planes of a frame as its files have it, one after the other."""
    footage = MaskFootage.parse(args["footage"])
    planes = footage.read_planes(int(args["frame"]), _open_kept(session, footage))
    body = b"".join(np.ascontiguousarray(plane).tobytes() for plane in planes.values())
    return Answer({"keys": list(planes), "height": footage.height, "width": footage.width}, body)


def measure(session: Session, args: dict[str, Any]) -> Answer:
    """{footage}: how much of each frame each id covers."""
    footage = MaskFootage.parse(args["footage"])
    coverage = measure_coverage(footage, _report_often(session, "coverage", footage.frames))
    return Answer({"shares": coverage.dump()})


def write(session: Session, args: dict[str, Any]) -> Answer:
    """{footage, targets, drafts, comment}: the whole mask, written; what it covers."""
    footage = MaskFootage.parse(args["footage"])
    coverage = write_footage(
        footage,
        {key: Path(path) for key, path in args["targets"].items()},
        {int(frame): Path(path) for frame, path in args["drafts"].items()},
        str(args["comment"]),
        _report_often(session, "mask", footage.frames),
    )
    return Answer({"shares": coverage.dump()})


def track(session: Session, args: dict[str, Any]) -> Answer:
    """{footage, keys, first, last, direction, kept, backend, model, device}: drafts of the range.

    Each is told as it is there, as progress "FRAME CONFIDENCE". `kept` are frames painted by hand:
    they are left alone, and so is what becomes one meanwhile.
    """
    footage = MaskFootage.parse(args["footage"])
    request = TrackRequest(args["keys"], int(args["first"]), int(args["last"]), args["direction"])
    carrier = _load_carrier(session, args)
    drafts = footage.drafts

    def is_wanted(frame: int) -> bool:
        note = drafts.list_notes().get(frame) if drafts else None
        return frame not in args["kept"] and (note is None or note.maker != "hand")

    def report(frame: int, count: int, confidence: float) -> None:
        session.report_progress(f"{frame} {confidence}", count, request.last - request.first + 1)

    session.check()
    tracked = track_footage(
        footage, request, carrier, _open_kept(session, footage), report, is_wanted
    )
    return Answer({"tracked": tracked})


def blend(session: Session, args: dict[str, Any]) -> Answer:
    """{footage, first, last, kept}: the frames between two keyframes drawn by their shapes."""
    footage = MaskFootage.parse(args["footage"])
    open_file = _open_kept(session, footage)
    drawn_frames = blend_footage(
        footage, int(args["first"]), int(args["last"]), open_file, args["kept"]
    )
    return Answer({"drawn": drawn_frames})


def _open_kept(session: Session, footage: MaskFootage) -> OpenReader:
    """Opens mask files, and keeps them open between requests."""
    reading = footage.code.reading

    def open_file(path: Path) -> FrameReader:
        stat = path.stat()
        key = ("mask reader", str(path), stat.st_mtime_ns, stat.st_size, reading)
        reader: FrameReader = session.cache.get(
            key, lambda: (open_reader(path, reading, HELD_BYTES), HELD_BYTES)
        )
        return reader

    return open_file


def _report_often(session: Session, stage: str, total: int) -> ReportFrame:
    def report(_: int, count: int, __: float) -> None:
        session.check()
        if count % OFTEN == 0 or count == total:
            session.report_progress(stage, count, total)

    return report


def _load_carrier(session: Session, args: dict[str, Any]) -> Carrier:
    backend, model, device = str(args["backend"]), str(args["model"]), str(args["device"])
    size = 0 if backend == "flow" else 1 << 29
    carrier: Carrier = session.cache.get(
        ("carrier", backend, model, device), lambda: (load_carrier(backend, model, device), size)
    )
    return carrier


OPS: dict[str, Operation] = {
    "footage.read": read_frame,
    "footage.measure": measure,
    "footage.write": write,
    "footage.track": track,
    "footage.blend": blend,
}
