"""Files dropped into the page: one request a file, its body as it is."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from frisket.studio.sets.index import OpenIndexes
from frisket.studio.sets.uploads import (
    LARGEST,
    SPARE,
    BadUpload,
    TooLarge,
    choose_kind,
    choose_place,
    clean_name,
    receive,
)

router = APIRouter()


@router.get("/uploads/limits")
def read_limits() -> dict[str, int]:
    """The largest file that is taken, and what is left free on the disk; bytes."""
    return {"largest": LARGEST, "spare": SPARE}


@router.post("/sets/{set_id}/files", response_model=None)
async def take_file(
    set_id: Annotated[str, Path(max_length=64)],
    request: Request,
    indexes: OpenIndexes,
    name: Annotated[str, Query(min_length=1, max_length=1000)],
    kind: Literal["auto", "clip", "mask"] = "auto",
    last: bool = True,
) -> dict[str, Any] | JSONResponse:
    """Take one file into the set: a clip, a caption of a clip, or a mask of one.

    `last` False says that more follow, and the set is looked at again only after the last of them.
    """
    index = await run_in_threadpool(indexes.open, set_id)
    plan = index.plan
    try:
        cleaned = clean_name(name)
        file_kind = choose_kind(plan, cleaned)
        if kind == "mask" and file_kind == "clip":
            file_kind = "mask"
        if kind == "clip" and file_kind == "mask":
            file_kind = "clip"
        clip_names = {row.name for row in index.rows.values()} | indexes.list_arrivals(set_id)
        path = await run_in_threadpool(choose_place, plan, file_kind, cleaned, clip_names)
        await receive(path, _read(request), file_kind)
    except TooLarge as error:
        return JSONResponse({"error": str(error)}, 413)
    except BadUpload as error:
        return JSONResponse({"error": str(error)}, 422)
    if file_kind == "clip":
        indexes.note_arrival(set_id, path.with_suffix("").name)
    if last:
        await run_in_threadpool(indexes.refresh, set_id)
    return {"name": path.name, "kind": file_kind, "renamed": path.name != cleaned}


async def _read(request: Request) -> AsyncIterator[bytes]:
    async for chunk in request.stream():
        yield chunk
