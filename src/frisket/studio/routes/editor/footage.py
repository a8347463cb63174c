"""The time line of a video's mask: which frames are whose, and what is done with all of them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from frisket.studio.state import OpenStudio
from frisket.studio.waiting import call_while_wanted

router = APIRouter()

MOST = 10_000_000
_Frame = Annotated[int, Field(ge=0, le=MOST)]
_FramePath = Annotated[int, Path(ge=0, le=MOST)]
COPIES = 2000  # frames that one mask is laid on at once


class TrackBody(BaseModel):
    """Frames `first` to `last`; `keys` are right as they are, besides those painted by hand."""

    model_config = ConfigDict(extra="forbid")

    first: _Frame
    last: _Frame
    direction: Annotated[str, Field(pattern="^(forward|backward|both)$")] = "both"
    keys: Annotated[list[_Frame], Field(max_length=4096)] = []
    tracker: Annotated[str, Field(max_length=80)] = "flow"


class RangeBody(BaseModel):
    """Frames `first` to `last`."""

    model_config = ConfigDict(extra="forbid")

    first: _Frame
    last: _Frame


def _import_rooms() -> Any:
    # They bring readers of masks, which a server that only starts has no use for.
    from frisket.studio.footage import timeline  # noqa: PLC0415

    return timeline


@router.get("/clips/{clip_id}/timeline")
def read_timeline(clip_id: str, studio: OpenStudio) -> dict[str, Any]:
    """Which frames a hand painted, which were carried and how sure they are, what each covers."""
    answer: dict[str, Any] = _import_rooms().describe_timeline(studio, clip_id)
    return answer


@router.get("/clips/{clip_id}/timeline/picks")
async def read_picks(clip_id: str, request: Request, studio: OpenStudio) -> dict[str, Any]:
    """The frames that the trainer takes, window by window; none without a configuration."""
    args = await run_in_threadpool(_import_rooms().list_pick_args, studio, clip_id)
    if args is None:
        return {"windows": [], "latent": 1, "mode": ""}
    reply = await call_while_wanted(request, studio, "picks.list", args)
    return reply.value


@router.post("/clips/{clip_id}/timeline/coverage")
async def measure_coverage(clip_id: str, request: Request, studio: OpenStudio) -> dict[str, Any]:
    """What each frame of the mask's file covers, by region; kept until the file changes."""
    args = await run_in_threadpool(_import_rooms().list_measure_args, studio, clip_id)
    reply = await call_while_wanted(request, studio, "footage.measure", args, lane="model")
    shares = reply.value["shares"]
    await run_in_threadpool(_import_rooms().keep_shares, studio, clip_id, shares)
    return {"shares": shares}


@router.post("/clips/{clip_id}/mask/whole")
async def write_whole(clip_id: str, studio: OpenStudio) -> dict[str, Any]:
    """Write the painted frames into the mask's file; a still mask becomes one of frames."""
    answer: dict[str, Any] = await _import_rooms().write_reel(studio, clip_id)
    return answer


@router.post("/clips/{clip_id}/mask/track")
async def start_tracking(clip_id: str, body: TrackBody, studio: OpenStudio) -> dict[str, Any]:
    """Carry the painted frames over a range, in the background; `mask` events tell each frame."""
    answer: dict[str, Any] = await _import_rooms().start_tracking(studio, clip_id, body)
    return answer


@router.delete("/clips/{clip_id}/mask/track")
async def stop_tracking(clip_id: str, studio: OpenStudio) -> dict[str, Any]:
    """Stop; the frames that are done stay."""
    await _import_rooms().find_runs(studio).stop(clip_id)
    return {"running": False}


@router.post("/clips/{clip_id}/mask/track/undo")
def undo_tracking(clip_id: str, studio: OpenStudio) -> dict[str, Any]:
    """Put back what the last tracking took the place of."""
    frames = _import_rooms().undo_tracking(studio, clip_id)
    studio.events.publish("mask", {"clip": clip_id, "frames": frames})
    return {"frames": frames}


@router.post("/clips/{clip_id}/mask/blend")
async def blend_frames(clip_id: str, body: RangeBody, studio: OpenStudio) -> dict[str, Any]:
    """Draw the frames between two, on the way from one shape to the other."""
    args = await run_in_threadpool(
        _import_rooms().list_blend_args, studio, clip_id, body.first, body.last
    )
    reply = await studio.serve.call("footage.blend", args, lane="model")
    studio.events.publish("mask", {"clip": clip_id, "frames": reply.value["drawn"]})
    return {"frames": reply.value["drawn"]}


@router.post("/clips/{clip_id}/mask/frames/{source}/copy")
def copy_frame(
    clip_id: str, source: _FramePath, body: RangeBody, studio: OpenStudio
) -> dict[str, Any]:
    """Lay the mask of one frame on others."""
    if body.last < body.first or body.last - body.first >= COPIES:
        raise ValueError(f"frames {body.first} to {body.last}: give a range of up to {COPIES}")
    targets = range(body.first, body.last + 1)
    frames = _import_rooms().open_reel(studio, clip_id).copy_frame(source, targets)
    studio.events.publish("mask", {"clip": clip_id, "frames": frames})
    return {"frames": frames}


@router.delete("/clips/{clip_id}/mask/frames/{frame}")
def forget_frame(clip_id: str, frame: _FramePath, studio: OpenStudio) -> dict[str, Any]:
    """Drop what was painted on a frame and is not in the mask's file yet."""
    _import_rooms().open_reel(studio, clip_id).reel.drafts.drop(frame)
    studio.events.publish("mask", {"clip": clip_id, "frames": [frame]})
    return {"frames": [frame]}
