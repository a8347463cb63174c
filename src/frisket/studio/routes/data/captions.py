"""Captions: one at a time, or find and replace in many with every change shown before."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from frisket.studio.ids import EntryId
from frisket.studio.sets.captions import (
    CaptionChange,
    CaptionChanged,
    CaptionEdit,
    CaptionText,
    NotEditable,
    digest_changes,
    locate_caption,
    plan_changes,
    read_caption,
    write_caption,
)
from frisket.studio.sets.index import OpenIndexes
from frisket.studio.sets.listing import ClipRow
from frisket.studio.sets.undo import keep_edit, read_edit, take_back
from frisket.studio.state import OpenStudio

router = APIRouter()

WholeCaption = Annotated[str, Field(max_length=1 << 20)]
MOST_SHOWN = 2000  # changes sent to the page; all of them are counted


class CaptionBody(BaseModel):
    """A whole caption, and the revision of the file it was made from."""

    text: WholeCaption
    revision: Annotated[str, Field(max_length=40)]


class EditBody(BaseModel):
    """An edit of many captions; `digest` is that of the preview, where it is to be done."""

    ids: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=100_000)] | None
    action: Literal["replace", "add", "remove"]
    find: Annotated[str, Field(max_length=2000)] = ""
    replacement: Annotated[str, Field(max_length=20_000)] = ""
    regex: bool = False
    ignore_case: bool = False
    tag: Annotated[str, Field(max_length=500)] = ""
    first: bool = False
    digest: Annotated[str, Field(max_length=40)] = ""

    def make_edit(self) -> CaptionEdit:
        """The edit without what it is done to."""
        fields = self.model_dump(exclude={"ids", "digest"})
        return CaptionEdit(**fields)


@router.get("/clips/{clip_id}/caption")
def read_clip_caption(clip_id: EntryId, indexes: OpenIndexes) -> dict[str, Any]:
    """The whole text of a clip's caption file, and its revision."""
    _, row = indexes.find(clip_id)
    try:
        caption = read_caption(row)
    except NotEditable as error:
        return {"text": row.text or "", "revision": "", "editable": False, "why": str(error)}
    return {**_dump(caption), "editable": True, "why": "", "file": locate_caption(row).name}


@router.put("/clips/{clip_id}/caption")
def write_clip_caption(clip_id: EntryId, body: CaptionBody, indexes: OpenIndexes) -> dict[str, Any]:
    """Write the whole text; 409 with what is there where the file changed meanwhile."""
    index, row = indexes.find(clip_id)
    try:
        caption = write_caption(row, body.text, body.revision)
    except CaptionChanged as error:
        their_caption = {"text": error.text, "revision": error.revision}
        fix = "Look at both: keep one of them, or join them."
        raise HTTPException(
            409, {"error": str(error), "fix": fix, "theirs": their_caption}
        ) from error
    indexes.refresh(index.plan.clip_set.id)
    return _dump(caption)


@router.post("/sets/{set_id}/captions/preview")
def show_edit(set_id: EntryId, body: EditBody, indexes: OpenIndexes) -> dict[str, Any]:
    """Every caption before and after an edit; nothing is written."""
    _, rows = indexes.choose(set_id, body.ids)
    changes = plan_changes(rows, body.make_edit())
    locked = sum(_is_locked(row) for row in rows)
    return {
        "digest": digest_changes(changes),
        "count": len(changes),
        "of": len(rows),
        "locked": locked,
        "changes": [_dump_change(change) for change in changes[:MOST_SHOWN]],
    }


@router.post("/sets/{set_id}/captions/edit")
def edit_captions(
    set_id: EntryId, body: EditBody, indexes: OpenIndexes, studio: OpenStudio
) -> dict[str, Any]:
    """Do what the preview showed; 409 where a caption changed since it was shown."""
    _, rows = indexes.choose(set_id, body.ids)
    changes = plan_changes(rows, body.make_edit())
    if digest_changes(changes) != body.digest:
        raise HTTPException(409, {"error": "captions changed since the preview; look again"})
    changed_captions: list[tuple[ClipRow, str, CaptionText]] = []
    passed: list[str] = []
    undo: str | None = None
    try:
        for change in changes:
            try:
                after = write_caption(change.row, change.after, change.revision)
            except CaptionChanged:
                passed.append(change.row.name)
            else:
                changed_captions.append((change.row, change.before, after))
    finally:  # also of an edit that a full disk ended: what it changed can be taken back
        if changed_captions:
            undo = keep_edit(studio.home / "edits", set_id, changed_captions)
            indexes.refresh(set_id)
    return {"undo": undo, "count": len(changed_captions), "passed": passed}


@router.post("/sets/{set_id}/captions/undo/{edit_id}")
def undo_edit(
    set_id: EntryId, edit_id: EntryId, indexes: OpenIndexes, studio: OpenStudio
) -> dict[str, Any]:
    """Write the texts before an edit again; captions changed since are left, and named."""
    edit = read_edit(studio.home / "edits", edit_id)
    index = indexes.open(set_id)
    restored_ids, passed = take_back(edit, index.rows)
    indexes.refresh(set_id)
    return {"count": len(restored_ids), "passed": passed}


def _is_locked(row: ClipRow) -> bool:
    try:
        locate_caption(row)
    except NotEditable:
        return True
    return False


def _dump(caption: CaptionText) -> dict[str, Any]:
    return {"text": caption.text, "revision": caption.revision}


def _dump_change(change: CaptionChange) -> dict[str, Any]:
    return {
        "id": change.row.id,
        "name": change.row.name,
        "before": change.before,
        "after": change.after,
    }
