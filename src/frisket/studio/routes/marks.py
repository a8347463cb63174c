"""How the masks of a set stand: made and sure, unsure, painted by hand, none."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from frisket.studio.marks import list_marks
from frisket.studio.state import Studio, get_studio

router = APIRouter()


@router.get("/sets/{set_id}/marks")
def get_marks(set_id: str, studio: Annotated[Studio, Depends(get_studio)]) -> dict[str, Any]:
    """The mark of every clip of a set, by id."""
    clip_set = studio.workspace.get_set(set_id)
    return {"marks": list_marks(clip_set, studio.workspace.list_clips(clip_set))}
