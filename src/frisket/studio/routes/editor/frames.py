"""Frames of clips, by the trainer's numbers; decoded by the trainer's reader, in a child."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from frisket.studio.state import OpenStudio
from frisket.studio.waiting import call_while_wanted

router = APIRouter()

MOST = 16384  # pixels a side; frames a strip has are bounded by itself
KINDS = {"jpeg": "image/jpeg", "webp": "image/webp", "png": "image/png"}


@router.get("/clips/{clip_id}/frames")
async def read_frames(clip_id: str, request: Request, studio: OpenStudio) -> dict[str, Any]:
    """How many frames a clip has, their size and rate, and when each begins where that varies."""
    clip = studio.workspace.get_clip(clip_id)
    reply = await call_while_wanted(request, studio, "frames.info", {"path": str(clip.path)})
    return reply.value


@router.get("/clips/{clip_id}/frames/{index}")
async def read_frame(
    clip_id: str,
    index: int,
    request: Request,
    studio: OpenStudio,
    width: Annotated[int, Query(ge=0, le=MOST)] = 0,
    exact: bool = False,
) -> Response:
    """One frame, no wider than `width`; `exact` gives its pixels as the trainer has them."""
    clip = studio.workspace.get_clip(clip_id)
    form = "png" if exact else "jpeg"
    args = {"path": str(clip.path), "index": index, "width": 0 if exact else width, "form": form}
    reply = await call_while_wanted(request, studio, "frames.read", args)
    return Response(reply.body, media_type=KINDS[form])


@router.get("/clips/{clip_id}/strip")
async def read_strip(
    clip_id: str,
    request: Request,
    studio: OpenStudio,
    count: Annotated[int, Query(ge=1, le=400)] = 40,
    height: Annotated[int, Query(ge=8, le=256)] = 48,
) -> Response:
    """A film strip; the header X-Frisket-Strip says which frame each tile shows."""
    clip = studio.workspace.get_clip(clip_id)
    args = {"path": str(clip.path), "count": count, "height": height}
    reply = await call_while_wanted(request, studio, "frames.strip", args)
    headers = {"X-Frisket-Strip": json.dumps(reply.value)}
    return Response(reply.body, media_type=KINDS["webp"], headers=headers)
