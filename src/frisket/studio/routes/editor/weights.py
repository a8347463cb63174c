"""What the loss will see of a clip's mask, while it is painted or as it is saved."""

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frisket.studio.framing import BadFrame, pack_frame, read_frame
from frisket.studio.state import OpenStudio, Studio
from frisket.studio.waiting import call_while_wanted
from frisket.studio.workspace import ClipSet, WorkspaceClip

router = APIRouter()

LARGEST = 64 << 20  # bytes of a request: deflated labels are some 100 kB
PaintedRegion = Annotated[str, Field(min_length=1, max_length=120)]
FrameSide = Annotated[int, Field(ge=1, le=1 << 15)]
Trained = Annotated[int, Field(ge=8, le=8192)]


class WeightsRequest(BaseModel):
    """How to look; with parts in the body, at a mask that is being painted."""

    model_config = ConfigDict(extra="forbid")

    width: FrameSide = 1
    height: FrameSide = 1
    legend: Annotated[
        dict[PaintedRegion, Annotated[int, Field(ge=0, le=255)]], Field(max_length=256)
    ] = {}
    soft: Annotated[list[PaintedRegion], Field(max_length=64)] = []
    lengths: Annotated[list[Annotated[int, Field(ge=1, le=LARGEST)]], Field(max_length=65)] = []
    frame: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    t: Annotated[float, Field(ge=0, le=1)] = 0.0
    weights: Annotated[
        dict[PaintedRegion, Annotated[float, Field(ge=0, le=1e6)]], Field(max_length=256)
    ] = {}
    resolution: Trained | tuple[Trained, Trained] | None = None


@router.post("/clips/{clip_id}/weights")
async def see_weights(clip_id: str, request: Request, studio: OpenStudio) -> Response:
    """A frame: what every region comes to, then float16 weights f h w and coverage k f h w."""
    clip, clip_set = await run_in_threadpool(find_clip, studio, clip_id)
    head, body = await read_frame(request, LARGEST)
    try:
        options = WeightsRequest.model_validate_json(head)
    except ValidationError as error:
        raise BadFrame(str(error)) from error
    if sum(options.lengths) != len(body):
        raise BadFrame(f"parts of {sum(options.lengths)} bytes in a body of {len(body)}")
    args = options.model_dump(mode="json") | name_clip(clip, clip_set)
    reply = await call_while_wanted(request, studio, "weights.see", args, body=body)
    return pack_frame(reply.value, reply.body)


def find_clip(studio: Studio, clip_id: str) -> tuple[WorkspaceClip, ClipSet]:
    """A clip and its data set; UnknownId where there is none."""
    clip = studio.workspace.get_clip(clip_id)
    return clip, studio.workspace.get_set(clip.set_id)


def name_clip(clip: WorkspaceClip, clip_set: ClipSet) -> dict[str, Any]:
    """What `frisket serve` needs to find a clip; 409 where no configuration says how it trains."""
    if clip_set.config is None:
        raise HTTPException(
            409,
            {
                "error": "no configuration says how this folder is trained on",
                "fix": "Make one on the Data page (`frisket init`), then look again.",
            },
        )
    return {
        "config": str(clip_set.config),
        "number": clip_set.index,
        "clip": str(clip.path),
        "name": clip.name,
    }
