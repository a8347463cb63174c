"""Masks: read whole, changed by tiles, brought back from earlier versions."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from frisket.studio.documents.adopting import add_folder
from frisket.studio.documents.base import Conflict, Description
from frisket.studio.documents.opening import open_document
from frisket.studio.documents.wire import BODY, pack_plane, unpack_patch
from frisket.studio.state import OpenStudio, Studio

router = APIRouter()

INFO = "X-Frisket-Mask"
BINARY = "application/octet-stream"
_Frame = Annotated[int, Query(ge=0, lt=1 << 31)]
_Revision = Annotated[str, Header(alias="If-Match", max_length=80)]


@router.get("/clips/{clip_id}/mask")
def read_mask(clip_id: str, studio: OpenStudio, frame: _Frame = 0) -> Response:
    """The ids of a frame, deflated, row after row; what they mean is in X-Frisket-Mask."""
    snapshot = open_document(studio, clip_id).read(frame)
    return _send(snapshot.description, pack_plane(snapshot.content.ids))


@router.get("/clips/{clip_id}/mask/soft/{region:path}")
def read_soft(clip_id: str, region: str, studio: OpenStudio, frame: _Frame = 0) -> Response:
    """The soft plane of a region, as the ids are sent; 404 where it has none."""
    snapshot = open_document(studio, clip_id).read(frame)
    region_ids = {entry.name: entry.id for entry in snapshot.description.regions}
    plane = snapshot.content.soft.get(region_ids.get(region, -1))
    if plane is None:
        raise HTTPException(404, f"the mask has no soft plane {region!r}")
    return _send(snapshot.description, pack_plane(plane))


@router.put("/clips/{clip_id}/mask")
async def write_mask(
    clip_id: str, request: Request, studio: OpenStudio, revision: _Revision
) -> dict[str, Any]:
    """Change tiles of the mask, if `If-Match` is its newest revision; 412 with the newest if not.

    The body is a binary frame (see documents.wire).
    """
    body = await _read_body(request)
    return await run_in_threadpool(_write, studio, clip_id, body, revision)


def _write(studio: Studio, clip_id: str, body: bytes, revision: str) -> dict[str, Any]:
    frame, patch = unpack_patch(body)
    try:
        newest = open_document(studio, clip_id).write(frame, patch, revision)
    except Conflict as conflict:
        raise _refuse(conflict) from conflict
    return _publish_change(studio, clip_id, frame, newest)


@router.get("/clips/{clip_id}/mask/history")
def list_versions(clip_id: str, studio: OpenStudio) -> dict[str, Any]:
    """Earlier versions, newest first."""
    list_all = getattr(open_document(studio, clip_id), "list_versions", None)
    return {"versions": list_all() if list_all else []}


@router.post("/clips/{clip_id}/mask/history/{number}/restore")
def restore_version(
    clip_id: str,
    number: Annotated[int, Path(ge=0, lt=1 << 31)],
    studio: OpenStudio,
    revision: _Revision,
) -> dict[str, Any]:
    """Bring a version back, as a new one; 412 where `If-Match` is not the newest."""
    restore = getattr(open_document(studio, clip_id), "restore", None)
    if restore is None:
        raise HTTPException(404, "versions of this mask are not kept")
    try:
        newest = restore(number, revision)
    except Conflict as conflict:
        raise _refuse(conflict) from conflict
    return _publish_change(studio, clip_id, 0, newest)


@router.post("/sets/{set_id}/masks")
def add_masks_folder(set_id: str, studio: OpenStudio) -> dict[str, Any]:
    """Give a data set without masks a folder for them: `masks` beside its configuration."""
    folder = add_folder(studio.workspace.get_set(set_id))
    studio.events.publish("clips", {"set": set_id, "masks": True})
    return {"masks": folder.name}


def _publish_change(studio: Studio, clip_id: str, frame: int, revision: str) -> dict[str, Any]:
    studio.events.publish("mask", {"clip": clip_id, "frame": frame, "revision": revision})
    return {"revision": revision}


def _refuse(conflict: Conflict) -> HTTPException:
    return HTTPException(
        412,
        {
            "error": str(conflict),
            "fix": "look at both, then keep one of them or lay yours over theirs",
            "revision": conflict.revision,
        },
    )


def _send(description: Description, body: bytes) -> Response:
    info = json.dumps(description.describe(), separators=(",", ":"))
    headers = {INFO: info, "ETag": f'"{description.revision}"'}
    return Response(body, media_type=BINARY, headers=headers)


async def _read_body(request: Request) -> bytes:
    """The body, of at most BODY bytes: what is beyond is not read."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > BODY:
            raise HTTPException(413, f"a change of more than {BODY} bytes; save more often")
        parts.append(part)
    return b"".join(parts)
