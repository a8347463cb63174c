"""Clips of a data set: rows, facts, pictures; keep and reject, repeats, the trash."""

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from frisket.media.paths import IMAGES
from frisket.studio.ids import EntryId, EntryIds
from frisket.studio.sets.findings import group_findings
from frisket.studio.sets.index import (
    OpenIndexes,
    SetIndex,
    SetIndexes,
    describe_for_serve,
)
from frisket.studio.sets.listing import ClipRow
from frisket.studio.sets.pictures import SmallPicture, choose_size, make_key
from frisket.studio.sets.plan import SetPlan, list_regions
from frisket.studio.sets.tables import reject_clips, set_repeats
from frisket.studio.sets.undo import list_trash, move_to_trash, restore_from_trash
from frisket.studio.state import OpenStudio

router = APIRouter()

ThumbSize = Annotated[int, Query(ge=16, le=2048)]
ANEW = "private, max-age=31536000, immutable"  # addresses with `v` change with their file


class Chosen(BaseModel):
    """Some clips of a set."""

    ids: EntryIds


class Rejection(Chosen):
    """Clips that are left out of training, or taken back."""

    rejected: bool


class SetChange(BaseModel):
    """What of a `[[data]]` table is changed."""

    repeats: Annotated[int, Field(ge=1, le=10_000)]


@router.get("/sets/{set_id}/clips")
def list_clips(set_id: EntryId, indexes: OpenIndexes) -> Response:
    """The clips of a set in the trainer's order, and what is known of the set."""
    index = indexes.open(set_id)
    return _send_json(
        {
            "clips": [_describe_row(set_id, row) for row in index.rows.values()],
            **_describe_set(index),
        }
    )


@router.get("/sets/{set_id}/facts")
def list_facts(
    set_id: EntryId, indexes: OpenIndexes, since: Annotated[int, Query(ge=0)] = 0
) -> Response:
    """Facts of the clips that changed after the change `since`."""
    index = indexes.open(set_id, stale=True)
    findings = group_findings(index.plan)
    changed = [c for c, number in list(index.changes.items()) if number > since]
    facts = [
        index.facts[clip_id].dump(findings.get(index.rows[clip_id].name, ()))
        for clip_id in changed
        if clip_id in index.facts and clip_id in index.rows
    ]
    return _send_json(
        {
            "number": index.number,
            "measured": index.measured,
            "total": len(index.rows),
            "facts": facts,
        }
    )


@router.get("/clips/{clip_id}")
def read_clip(clip_id: EntryId, indexes: OpenIndexes) -> dict[str, Any]:
    """One clip with its facts."""
    index, row = indexes.find(clip_id)
    facts = index.facts.get(clip_id)
    findings = group_findings(index.plan).get(row.name, ())
    set_id = index.plan.clip_set.id
    return {**_describe_row(set_id, row), "facts": None if facts is None else facts.dump(findings)}


@router.get("/clips/{clip_id}/thumb")
async def send_thumb(
    clip_id: EntryId,
    indexes: OpenIndexes,
    size: ThumbSize = 256,
    v: Annotated[str, Query(max_length=40)] = "",
    if_none_match: Annotated[str, Header(max_length=200)] = "",
) -> Response:
    """A small picture of a clip, WebP: upright and in sRGB, of a video its first frame."""
    _, row = await run_in_threadpool(indexes.find, clip_id)
    longest = choose_size(size)
    key = make_key("thumb", longest, row.path)
    if (answer := _answer_same(key, if_none_match, v)) is not None:
        return answer
    picture = await run_in_threadpool(indexes.pictures.look_up, key)
    if picture is None and _is_still(row):
        picture = await run_in_threadpool(_draw_thumb, indexes, key, row, longest)
    if picture is None:
        args = {"clip": str(row.path), "size": longest}
        picture = await indexes.pictures.fetch(key, lambda: _ask(indexes, "clips.thumb", args))
    return _send_picture(picture, v)


@router.get("/clips/{clip_id}/overlay")
async def send_overlay(
    clip_id: EntryId,
    indexes: OpenIndexes,
    size: ThumbSize = 256,
    v: Annotated[str, Query(max_length=40)] = "",
    if_none_match: Annotated[str, Header(max_length=200)] = "",
) -> Response:
    """The regions of a clip's mask in their colours, WebP with alpha; 204 for no mask."""
    index, row = await run_in_threadpool(indexes.find, clip_id)
    plan = index.plan
    if not row.masks and plan.source != "alpha":
        return Response(status_code=204)
    longest = choose_size(size)
    how = describe_for_serve(plan, row)
    key = make_key("overlay", longest, row.path, *row.masks.values(), more=how)
    if (answer := _answer_same(key, if_none_match, v)) is not None:
        return answer
    picture = await run_in_threadpool(indexes.pictures.look_up, key)
    if picture is None and _is_still(row):
        picture = await run_in_threadpool(_draw_overlay, indexes, key, plan, row, longest)
    if picture is None:
        picture = await indexes.pictures.fetch(
            key, lambda: _ask_overlay(indexes, plan, how, longest)
        )
    return _send_picture(picture, v)


@router.post("/sets/{set_id}/reject")
def reject(set_id: EntryId, body: Rejection, indexes: OpenIndexes) -> dict[str, Any]:
    """Leave clips out of training, or take them back: on the list that the runs obey."""
    index, rows = indexes.choose(set_id, body.ids)
    path = reject_clips(index.plan, rows, rejected=body.rejected)
    index = indexes.refresh(set_id)
    return {"list": path.name, "obeyed": index.plan.obeyed, "count": len(rows)}


@router.patch("/sets/{set_id}")
def change_set(set_id: EntryId, body: SetChange, indexes: OpenIndexes) -> dict[str, Any]:
    """Change a set's `[[data]]` table in its configuration, comments kept."""
    index = indexes.open(set_id)
    set_repeats(index.plan, body.repeats)
    return _describe_set(indexes.refresh(set_id))


@router.post("/sets/{set_id}/trash")
def discard_clips(
    set_id: EntryId, body: Chosen, indexes: OpenIndexes, studio: OpenStudio
) -> dict[str, Any]:
    """Move clips, with captions and masks, to the studio's trash."""
    _, rows = indexes.choose(set_id, body.ids)
    trashed = move_to_trash(studio.home / "trash", rows)
    indexes.refresh(set_id)
    return {"id": trashed.id, "names": trashed.names}


@router.get("/trash")
def read_trash(studio: OpenStudio) -> dict[str, Any]:
    """What is in the trash, newest first."""
    pieces = list_trash(studio.home / "trash")
    return {"trash": [{"id": p.id, "at": p.at, "names": p.names} for p in pieces]}


@router.post("/sets/{set_id}/trash/{trash_id}/restore")
def restore(
    set_id: EntryId, trash_id: EntryId, indexes: OpenIndexes, studio: OpenStudio
) -> dict[str, Any]:
    """Move a piece of trash back where it lay."""
    trashed = restore_from_trash(studio.home / "trash", trash_id)
    indexes.refresh(set_id)
    return {"names": trashed.names}


def _describe_row(set_id: str, row: ClipRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "set": set_id,
        "name": row.name,
        "video": row.video,
        "bytes": row.bytes,
        "mtime": row.mtime_ns // 1_000_000,
        "v": row.version,
        "masked": bool(row.masks),
        "rejected": row.rejected,
    }


def _describe_set(index: SetIndex) -> dict[str, Any]:
    plan, listing = index.plan, index.listing
    return {
        "number": index.number,
        "regions": [
            {"id": r.id, "name": r.name, "colour": r.colour, "weight": r.weight}
            for r in list_regions(plan)
        ],
        "masks": plan.source,
        "repeats": plan.repeats,
        "configured": plan.clip_set.config is not None,
        "obeyed": plan.obeyed,
        "suffix": plan.wording.suffix,
        "part": plan.wording.part,
        "fallback": plan.caption,
        "findings": [
            {"kind": t.kind, "severity": t.severity, "clip": t.clip, "sentence": t.sentence,
             "fix": t.fix}
            for t in (*listing.troubles, *group_findings(plan).get("", ()))
        ],
        "left": list(listing.left),
        "orphans": len(listing.orphans),
    }  # fmt: skip


def _is_still(row: ClipRow) -> bool:
    files = (row.path, *row.masks.values())
    return not row.video and all(path.suffix.lower() in IMAGES for path in files)


def _draw_thumb(indexes: SetIndexes, key: str, row: ClipRow, longest: int) -> SmallPicture:
    # NumPy, OpenCV and Pillow come with the first picture, not with the start.
    from frisket.studio.sets.pixels import make_thumb  # noqa: PLC0415

    return indexes.pictures.make(key, lambda: make_thumb(row.path, longest))


def _draw_overlay(
    indexes: SetIndexes, key: str, plan: SetPlan, row: ClipRow, longest: int
) -> SmallPicture:
    from frisket.studio.sets.pixels import draw_overlay, read_mask  # noqa: PLC0415

    return indexes.pictures.make(key, lambda: draw_overlay(plan, read_mask(plan, row), longest))


async def _ask(indexes: SetIndexes, op: str, args: dict[str, Any]) -> bytes:
    return (await indexes.studio.serve.call(op, args)).body


async def _ask_overlay(
    indexes: SetIndexes, plan: SetPlan, how: dict[str, Any], longest: int
) -> bytes:
    from frisket.studio.sets.pixels import draw_ids  # noqa: PLC0415

    reply = await indexes.studio.serve.call("clips.ids", {**how, "size": longest})
    size = (reply.value["height"], reply.value["width"])
    return await asyncio.to_thread(draw_ids, plan, reply.body, size, longest)


def _answer_same(key: str, if_none_match: str, version: str) -> Response | None:
    if f'"{key}"' not in if_none_match:
        return None
    return Response(status_code=304, headers=_make_headers(key, version))


def _send_picture(picture: SmallPicture, version: str) -> Response:
    headers = _make_headers(picture.etag, version)
    return Response(picture.body, media_type="image/webp", headers=headers)


def _make_headers(key: str, version: str) -> dict[str, str]:
    return {"etag": f'"{key}"', "cache-control": ANEW if version else "private, no-cache"}


def _send_json(value: dict[str, Any]) -> Response:
    """As it is: checking 10,000 rows against a model takes longer than listing them."""
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Response(body.encode("utf-8", "replace"), media_type="application/json")
