"""What is meant by clicks, a box or words on a clip: proposals for the page to accept."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from frisket.studio.framing import pack_frame
from frisket.studio.review.making import read_options
from frisket.studio.routes.editor.weights import find_clip
from frisket.studio.sets.plan import plan_of
from frisket.studio.settings import read_settings
from frisket.studio.state import OpenStudio, Studio
from frisket.studio.waiting import call_while_wanted
from frisket.studio.workspace import ClipSet, WorkspaceClip

router = APIRouter()

Pixel = Annotated[float, Field(ge=0, le=1 << 15)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$")]


class ClickedPoint(BaseModel):
    """One click, in pixels of the clip."""

    x: Pixel
    y: Pixel
    inside: bool = True


class SegmentRequest(BaseModel):
    """Clicks and a box, or words."""

    model_config = ConfigDict(extra="forbid")

    points: Annotated[list[ClickedPoint], Field(max_length=200)] = []
    box: tuple[Pixel, Pixel, Pixel, Pixel] | None = None
    text: Annotated[str, Field(max_length=200)] = ""
    frame: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    backend: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")] = "auto"
    device: Device = "auto"


@router.post("/clips/{clip_id}/segment")
async def segment(
    clip_id: str, body: SegmentRequest, request: Request, studio: OpenStudio
) -> Response:
    """A frame: scores and lengths, then each candidate H W of 0 and 1, deflated.

    409 with `busy` where a job works on an accelerator and no device was chosen: the page asks.
    """
    clip, clip_set = await run_in_threadpool(find_clip, studio, clip_id)
    args = await run_in_threadpool(_describe, studio, clip, clip_set)
    args |= {"frame": body.frame, "backend": body.backend}
    args["device"] = await _choose_device(studio, args, body.device)
    text = body.text.strip()
    points = [[point.x, point.y, point.inside] for point in body.points]
    prompt: dict[str, Any] = {"text": text} if text else {"points": points, "box": body.box}
    op = "segment.text" if text else "segment.points"
    reply = await call_while_wanted(request, studio, op, args | prompt, lane="model")
    return pack_frame(reply.value, reply.body)


@router.get("/clips/{clip_id}/segment")
async def list_segmenters(clip_id: str, studio: OpenStudio) -> dict[str, Any]:
    """Which model is clicked and which reads words here; what is missing where none does."""
    clip, clip_set = await run_in_threadpool(find_clip, studio, clip_id)
    args = await run_in_threadpool(_describe, studio, clip, clip_set)
    reply = await studio.serve.call("segment.list", args, lane="model")
    return reply.value | {"busy": _list_busy(studio)}


def _describe(studio: Studio, clip: WorkspaceClip, clip_set: ClipSet) -> dict[str, Any]:
    options = read_options(plan_of(clip_set))
    models = read_settings(studio.home).models
    return {
        "clip": str(clip.path),
        "folders": {name: path for name, path in options.sources.items() if name},
        "models": [str(folder) for folder in models],
    }


async def _choose_device(studio: Studio, args: dict[str, Any], device: str) -> str:
    """The device; where a job has the accelerator the user is prompt first."""
    busy = _list_busy(studio)
    if device != "auto" or not busy:
        return device
    reply = await studio.serve.call("segment.list", args, lane="model")
    if reply.value["device"] == "cpu" or reply.value["points"] == "draft":
        return "cpu"
    raise HTTPException(
        409,
        {
            "error": f"{busy[0]} runs on the device that the model would use",
            "fix": "Take the CPU for this, or wait until the job is done.",
            "busy": busy,
        },
    )


def _list_busy(studio: Studio) -> list[str]:
    """Titles of running jobs on an accelerator."""
    running = [job for job in studio.jobs.list_jobs() if job.state in ("running", "stopping")]
    return [job.spec.title for job in running if job.spec.device not in (None, "cpu")]
