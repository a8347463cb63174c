"""The pixels of a still, as the trainer sees them: its size, a level whole, or a tile of it."""

from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Response

from frisket.studio.pictures.pyramid import (
    NoSuchTile,
    PictureSize,
    Pyramids,
    measure_picture,
    stamp_picture,
)
from frisket.studio.state import OpenStudio, Studio

router = APIRouter()
pyramids = Pyramids()

Level = Annotated[int, Path(ge=0, le=16)]
TilePlace = Annotated[int, Path(ge=0, le=1 << 16)]
Exact = Annotated[bool, Query()]
# An address names the version of the file, so what is there never changes.
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable"}


@router.get("/clips/{clip_id}/picture")
def get_size(clip_id: str, studio: OpenStudio) -> PictureSize:
    """Width and height upright, and the levels; 409 for a video, whose frames are asked for."""
    clip = studio.workspace.get_clip(clip_id)
    if clip.video:
        raise HTTPException(409, f"{clip.name} is a video; its frames are at /clips/ID/frames")
    return measure_picture(clip.path)


@router.get("/clips/{clip_id}/picture/{version}/{level}")
def get_level(
    clip_id: str, version: str, level: Level, studio: OpenStudio, exact: Exact = False
) -> Response:
    """A whole level: JPEG, or PNG where `exact`."""
    path = _find_picture(studio, clip_id, version)
    try:
        body = pyramids.encode_level(path, level, exact=exact)
    except NoSuchTile as error:
        raise HTTPException(404, str(error)) from error
    return _answer(body, exact)


@router.get("/clips/{clip_id}/picture/{version}/{level}/{column}/{row}")
def get_tile(
    clip_id: str,
    version: str,
    level: Level,
    column: TilePlace,
    row: TilePlace,
    studio: OpenStudio,
    exact: Exact = False,
) -> Response:
    """One tile of a level: JPEG, or PNG where `exact`."""
    path = _find_picture(studio, clip_id, version)
    try:
        body = pyramids.encode_tile(path, level, column, row, exact=exact)
    except NoSuchTile as error:
        raise HTTPException(404, str(error)) from error
    return _answer(body, exact)


def _find_picture(studio: Studio, clip_id: str, version: str) -> FilePath:
    """The file behind an address; 409 where it is another than the address is of."""
    path = studio.workspace.get_clip(clip_id).path
    if stamp_picture(path) != version:
        raise HTTPException(409, f"{path.name} has changed since it was opened; reload the page")
    return path


def _answer(body: bytes, exact: bool) -> Response:
    return Response(body, media_type="image/png" if exact else "image/jpeg", headers=FOREVER)
