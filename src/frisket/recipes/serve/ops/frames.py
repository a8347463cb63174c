"""Frames of clips for the page: by the trainer's numbers, in the trainer's colours."""

import io
import math
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from frisket.media.frames import Media, probe
from frisket.media.seeking import HELD_BYTES, FrameReader, VideoReader, open_reader
from frisket.recipes.serve.session import Answer, Operation, Session

PictureForm = Literal["jpeg", "webp", "png"]
QUALITY = {"jpeg": 90, "webp": 82}
ROW = 10  # tiles of a film strip beside each other: no picture format takes rows without end
MOST_TILES = 400
_Rgb = UInt8[np.ndarray, "H W 3"]


def _stamp_file(path: Path) -> tuple[str, int, int]:
    """The file as it is now: what was known of another content is not known of it."""
    stat = path.stat()
    return str(path), stat.st_mtime_ns, stat.st_size


def open_clip(session: Session, path: Path) -> FrameReader:
    """The reader of a clip, kept open between requests."""
    reader: FrameReader = session.cache.get(
        ("reader", *_stamp_file(path)), lambda: (open_reader(path), HELD_BYTES)
    )
    return reader


def describe_clip(session: Session, path: Path) -> Media:
    """What a clip is; its packets are counted once."""
    media: Media = session.cache.get(("media", *_stamp_file(path)), lambda: (probe(path), 4096))
    return media


def read_info(session: Session, args: dict[str, Any]) -> Answer:
    """{path}: frames, size in pixels as seen, rate, and when frames begin where that varies."""
    path = Path(args["path"])
    media = describe_clip(session, path)
    reader = open_clip(session, path)
    reader.read(0)
    times = media.times if media.clock.variable else None
    return Answer(
        {
            "frames": media.frames,
            "width": media.width,
            "height": media.height,
            "fps": media.fps,
            "times": None if times is None else [round(time, 4) for time in times],
            "video": media.video,
            "seeks": reader.seeks if isinstance(reader, VideoReader) else True,
            "remarks": list(media.remarks),
        }
    )


def read_frame(session: Session, args: dict[str, Any]) -> Answer:
    """{path, index, width?, form?}: one frame as a picture, no wider than `width` (0: as it is).

    "png" holds the pixels as the trainer has them; "jpeg" and "webp" are for looking at.
    """
    path, index = Path(args["path"]), int(args["index"])
    width, form = int(args.get("width") or 0), args.get("form", "jpeg")

    def make() -> tuple[bytes, int]:
        picture = np.asarray(open_clip(session, path).read(index), np.uint8)
        body = encode_picture(shrink_picture(picture, width), form)
        return body, len(body)

    body: bytes = session.cache.get(("frame", *_stamp_file(path), index, width, form), make)
    return Answer({"form": form}, body)


def read_strip(session: Session, args: dict[str, Any]) -> Answer:
    """{path, count, height}: a film strip in rows of ROW tiles, and the frame each tile shows.

    Tiles lie evenly; where frames before a tile's own would have to be decoded, the start frame
    nearest before it is shown instead, if no other tile is as near: the list says which.
    """
    path = Path(args["path"])
    count, height = min(int(args["count"]), MOST_TILES), int(args["height"])
    media, reader = describe_clip(session, path), open_clip(session, path)
    wanted_frames = _choose_frames(media.frames, count)
    reach = max(media.frames // (2 * len(wanted_frames)), 1)
    shown_frames = [_find_near(reader, index, reach) for index in wanted_frames]
    width = max(round(media.width * height / media.height), 1)
    rows = math.ceil(len(shown_frames) / ROW)
    sheet = np.zeros((rows * height, min(len(shown_frames), ROW) * width, 3), np.uint8)
    for place, index in enumerate(shown_frames):
        session.report_progress("filmstrip", place, len(shown_frames))
        picture = np.asarray(reader.read(index), np.uint8)
        tile = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        top, left = place // ROW * height, place % ROW * width
        sheet[top : top + height, left : left + width] = tile
    value = {
        "frames": shown_frames,
        "wanted": wanted_frames,
        "width": width,
        "height": height,
        "row": ROW,
    }
    return Answer(value, encode_picture(sheet, "webp"))


def _choose_frames(frames: int, count: int) -> list[int]:
    """At most `count` frames, each in the middle of the stretch it stands for."""
    count = max(min(count, frames), 1)
    return [min(int((place + 0.5) * frames / count), frames - 1) for place in range(count)]


def _find_near(reader: FrameReader, index: int, reach: int) -> int:
    if not isinstance(reader, VideoReader):
        return index
    start = reader.find_whole(index)
    return index if start is None or index - start > reach else start


def shrink_picture(picture: _Rgb, width: int) -> _Rgb:
    """A picture no wider than `width` pixels, 0 for as it is."""
    if not 0 < width < picture.shape[1]:
        return picture
    height = max(round(picture.shape[0] * width / picture.shape[1]), 1)
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def encode_picture(picture: _Rgb, form: PictureForm) -> bytes:
    """JPEG (quickest), WebP (smallest) or PNG (exact) of H W 3."""
    stream = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    if form == "png":
        image.save(stream, "PNG", compress_level=1)
    elif form == "webp":
        image.save(stream, "WEBP", quality=QUALITY[form], method=0)
    else:
        image.save(stream, "JPEG", quality=QUALITY["jpeg"])
    return stream.getvalue()


OPS: dict[str, Operation] = {
    "frames.info": read_info,
    "frames.read": read_frame,
    "frames.strip": read_strip,
}
