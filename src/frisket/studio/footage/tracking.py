"""Corrections carried to other frames in the background, one clip at a time each."""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.concurrency import run_in_threadpool

from frisket.maskgen.files.drafts import TrackDirection
from frisket.studio.documents.reels import PaintedFrames
from frisket.studio.footage.saving import open_reel
from frisket.studio.serve_pool import ServeError
from frisket.studio.state import Studio

BEFORE = "before-tracking"  # drafts that a tracking took the place of


class TrackingBusy(ValueError):
    """A clip that something is being carried through already."""


@dataclass(frozen=True, slots=True)
class TrackOrder:
    """What is carried where, and by what; `model` is a folder the server knows."""

    first: int
    last: int
    direction: TrackDirection
    keys: Sequence[int] = ()  # further frames that are right as they are
    backend: str = "flow"
    model: str = ""
    device: str = "auto"


@dataclass(slots=True)
class TrackRun:
    """One at work, or the last of its clip."""

    order: TrackOrder
    total: int
    count: int = 0
    frames: dict[int, float] = field(default_factory=dict)
    fault: str = ""
    task: "asyncio.Task[None] | None" = None

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self.task is not None and not self.task.done()

    def describe(self) -> dict[str, Any]:
        """As JSON for the page."""
        return {
            "first": self.order.first,
            "last": self.order.last,
            "direction": self.order.direction,
            "running": self.running,
            "done": self.count,
            "total": self.total,
            "fault": self.fault,
        }


@dataclass(slots=True)
class TrackRuns:
    """Of all clips of a studio, by id."""

    by_clip: dict[str, TrackRun] = field(default_factory=dict)

    async def start(self, studio: Studio, clip_id: str, order: TrackOrder) -> TrackRun:
        """Begin; TrackingBusy where the clip is at it, ValueError for frames it has not.

        Frames painted by hand, and `order.keys`, are what is carried, and stay.
        """
        earlier = self.by_clip.get(clip_id)
        if earlier and earlier.running:
            raise TrackingBusy("a mask is being carried through this clip; wait, or stop it")
        args, total = await run_in_threadpool(_prepare, studio, clip_id, order)
        tracking = TrackRun(order, total)
        self.by_clip[clip_id] = tracking
        tracking.task = asyncio.create_task(_run(studio, clip_id, tracking, args))
        return tracking

    async def stop(self, clip_id: str) -> None:
        """End one at work; the frames it has done stay."""
        tracking = self.by_clip.get(clip_id)
        if tracking is not None and tracking.task is not None and tracking.running:
            tracking.task.cancel()
            await asyncio.wait({tracking.task})


_trackings: dict[Path, TrackRuns] = {}


def find_runs(studio: Studio) -> TrackRuns:
    """Those of a studio."""
    return _trackings.setdefault(studio.root, TrackRuns())


def _prepare(studio: Studio, clip_id: str, order: TrackOrder) -> tuple[dict[str, Any], int]:
    document = open_reel(studio, clip_id)
    if not 0 <= order.first <= order.last < document.size.frames:
        raise ValueError(
            f"frames {order.first} to {order.last} are no range of the clip, which has"
            f" {document.size.frames}"
        )
    reel = document.reel
    with reel.lock:
        notes, saved = reel.drafts.list_notes(), reel.load_saved()
        painted = reel.list_painted(saved, notes)
        keys = sorted({*painted, *order.keys})
        if not keys:
            raise ValueError("no frame of this clip was painted yet; paint one to carry it on")
        _keep_before(reel, range(order.first, order.last + 1))
    inside = range(order.first, order.last + 1)
    args = {
        "footage": document.describe_footage(),
        "keys": keys,
        "first": order.first,
        "last": order.last,
        "direction": order.direction,
        "kept": keys,
        "backend": order.backend,
        "model": order.model,
        "device": order.device,
    }
    return args, sum(frame not in keys for frame in inside)


def _keep_before(reel: PaintedFrames, frames: range) -> None:
    """Copies of the drafts of a range, for the way back."""
    folder = reel.folder / BEFORE
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "range").write_text(f"{frames.start} {frames.stop}", encoding="utf-8")
    for frame in reel.drafts.list_notes():
        if frame in frames:
            path = reel.drafts.locate(frame)
            shutil.copy2(path, folder / path.name)


async def _run(studio: Studio, clip_id: str, tracking: TrackRun, args: dict[str, Any]) -> None:
    def report(stage: str, count: int, total: int) -> None:
        del total  # known from the start
        frame, _, confidence = stage.partition(" ")
        tracking.count, tracking.frames[int(frame)] = count, float(confidence)
        studio.events.publish(
            "mask",
            {
                "clip": clip_id,
                "frame": int(frame),
                "tracked": float(confidence),
                "done": count,
                "total": tracking.total,
            },
        )

    try:
        await studio.serve.call("footage.track", args, lane="model", progress=report)
    except ServeError as error:
        tracking.fault = str(error)
    finally:
        studio.events.publish("mask", {"clip": clip_id, "ended": True, "fault": tracking.fault})


def undo_tracking(studio: Studio, clip_id: str) -> list[int]:
    """Put back what the last tracking took the place of; the frames that change.

    A frame that a hand painted since stays. ValueError where nothing is to be undone.
    """
    reel = open_reel(studio, clip_id).reel
    folder = reel.folder / BEFORE
    with reel.lock:
        try:
            start, stop = map(int, (folder / "range").read_text(encoding="utf-8").split())
        except (OSError, ValueError):
            raise ValueError("there is no tracking to undo in this clip") from None
        changed = []
        for frame, note in reel.drafts.list_notes().items():
            if start <= frame < stop and note.maker != "hand":
                reel.drafts.drop(frame)
                changed.append(frame)
        for path in folder.glob("*.zip"):
            place = reel.folder / path.name
            if not place.exists():
                path.replace(place)
        shutil.rmtree(folder, ignore_errors=True)
    return changed
