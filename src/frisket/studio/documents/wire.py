"""What travels between page and server: planes deflated whole, changes as one binary frame.

A change is `FMP1`, the length of a header (4 bytes, lowest first), the header as JSON, and one
deflated stream of the tiles' bytes, tile after tile, row after row. Nothing is unpacked beyond what
the header announces, and the header announces no more than the mask has.
"""

import zlib
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from frisket.disk.untrusted import BadText, cut, decode, parse_json
from frisket.masks.painting.strokes import IDS, read_edit
from frisket.media.foreign import PIXELS
from frisket.studio.documents.base import Levels, MaskPatch, Tile

MAGIC = b"FMP1"
BODY = 128 << 20  # bytes of a change
HEADER = 32 << 20  # bytes of its header, which holds the strokes
FAST = 1  # zlib's level: ids are long runs

_Side = Annotated[int, Field(ge=1, le=1 << 16)]
_Place = Annotated[int, Field(ge=0, lt=1 << 16)]


class BadPatch(ValueError):
    """Bytes that are no change of a mask; says what is wrong with them."""


class _TileHeader(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    plane: Annotated[int, Field(ge=IDS, le=255)]
    x: _Place
    y: _Place
    w: _Side
    h: _Side


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    frame: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    width: _Side
    height: _Side
    tiles: Annotated[list[_TileHeader], Field(max_length=1 << 18)]
    edits: Annotated[list[dict[str, Any]], Field(max_length=4096)] = []


def pack_plane(levels: Levels) -> bytes:
    """A plane for the page, deflated, row after row."""
    return zlib.compress(np.ascontiguousarray(levels).tobytes(), FAST)


def unpack_patch(raw: bytes) -> tuple[int, MaskPatch]:
    """The frame and its change; BadPatch for anything else, however large it would unpack.

    BadStroke for an entry of the log that cannot be one.
    """
    if len(raw) > BODY:
        raise BadPatch(f"{len(raw)} bytes of changes, at most {BODY} are read; save more often")
    if raw[:4] != MAGIC or len(raw) < 8:
        raise BadPatch("no change of a mask: it does not begin with FMP1")
    length = int.from_bytes(raw[4:8], "little")
    if length > min(HEADER, len(raw) - 8):
        raise BadPatch(f"a header of {length} bytes in {len(raw)} bytes")
    header = _read_header(raw[8 : 8 + length])
    for edit in header.edits:
        read_edit(edit, header.width * header.height)
    tiles, body = [], _unpack(raw[8 + length :], sum(tile.w * tile.h for tile in header.tiles))
    place = 0
    for tile in header.tiles:
        size = tile.w * tile.h
        levels = np.frombuffer(body, np.uint8, size, place).reshape(tile.h, tile.w)
        tiles.append(Tile(tile.plane, tile.x, tile.y, levels))
        place += size
    return header.frame, MaskPatch(header.width, header.height, tuple(tiles), tuple(header.edits))


def pack_patch(patch: MaskPatch, frame: int = 0) -> bytes:
    """The inverse of `unpack_patch`."""
    shapes = [tile.levels.shape for tile in patch.tiles]
    header = _Header(
        frame=frame,
        width=patch.width,
        height=patch.height,
        tiles=[
            _TileHeader(plane=tile.plane, x=tile.x, y=tile.y, w=width, h=height)
            for tile, (height, width) in zip(patch.tiles, shapes, strict=True)
        ],
        edits=list(patch.edits),
    )
    text = header.model_dump_json().encode()
    body = zlib.compress(b"".join(tile.levels.tobytes() for tile in patch.tiles), FAST)
    return MAGIC + len(text).to_bytes(4, "little") + text + body


def _read_header(raw: bytes) -> _Header:
    try:
        header = _Header.model_validate(parse_json(decode(raw)))
    except BadText as error:
        raise BadPatch(f"the header of a change is no JSON: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = cut(".".join(map(str, first["loc"])), 80)
        raise BadPatch(f"the header of a change: {place}: {cut(first['msg'])}") from error
    if header.width * header.height > PIXELS:
        raise BadPatch(f"a mask of {header.width} x {header.height} pixels is too large")
    pixels: dict[int, int] = {}
    for tile in header.tiles:
        if tile.x + tile.w > header.width or tile.y + tile.h > header.height:
            raise BadPatch(
                f"a tile of {tile.w} x {tile.h} at {tile.x}, {tile.y} reaches beyond the mask of"
                f" {header.width} x {header.height} pixels"
            )
        pixels[tile.plane] = pixels.get(tile.plane, 0) + tile.w * tile.h
    if max(pixels.values(), default=0) > header.width * header.height:
        raise BadPatch("the tiles hold more pixels than the mask")
    return header


def _unpack(raw: bytes, size: int) -> bytes:
    """Exactly `size` bytes; a bomb is stopped one byte beyond them."""
    unpacker = zlib.decompressobj()
    try:
        body = unpacker.decompress(raw, size + 1)
    except zlib.error as error:
        raise BadPatch(f"the tiles cannot be unpacked ({error})") from error
    if len(body) != size or not unpacker.eof or unpacker.unused_data:
        raise BadPatch(f"the tiles unpack to another size than the {size} bytes announced")
    return body
