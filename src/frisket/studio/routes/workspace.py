"""What the opened folder holds."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends

import frisket
from frisket.studio.state import Studio, get_studio
from frisket.studio.workspace import make_id

router = APIRouter()


@router.get("/workspace")
def read_workspace(studio: Annotated[Studio, Depends(get_studio)]) -> dict[str, Any]:
    """Name, configurations and data sets of the opened folder."""
    return {
        "name": studio.root.name,
        "path": str(studio.root),
        "version": frisket.__version__,
        "configs": [
            {"id": make_id("config", path.name), "name": path.name}
            for path in studio.workspace.configs()
        ],
        "sets": [
            {
                "id": each.id,
                "name": each.name,
                "config": each.config and make_id("config", each.config.name),
                "index": each.index,
            }
            for each in studio.workspace.sets()
        ],
    }


@router.get("/sets/{set_id}/clips")
def list_clips(set_id: str, studio: Annotated[Studio, Depends(get_studio)]) -> dict[str, Any]:
    """The clips of a set, in their order."""
    clip_set = studio.workspace.get_set(set_id)
    clips = studio.workspace.list_clips(clip_set)
    return {
        "clips": [
            {"id": clip.id, "set": clip.set_id, "name": clip.name, "video": clip.video}
            for clip in clips
        ]
    }


@router.get("/clips/{clip_id}")
def read_clip(clip_id: str, studio: Annotated[Studio, Depends(get_studio)]) -> dict[str, Any]:
    """One clip."""
    clip = studio.workspace.get_clip(clip_id)
    return {"id": clip.id, "set": clip.set_id, "name": clip.name, "video": clip.video}
