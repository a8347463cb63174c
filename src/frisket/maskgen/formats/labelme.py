"""LabelMe: one JSON a picture, regions as polygons (as bitmaps where they have holes)."""

import base64
import io
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frisket.disk.atomic import replacing
from frisket.disk.untrusted import cut, show
from frisket.maskgen.format_base import (
    BadExchange,
    Bits,
    Exchange,
    Masked,
    bits_of,
    blame,
    check_free,
    check_size,
    get_still,
    match_clips,
    merge_regions,
    points_of,
    read_json,
)

log = logging.getLogger(__name__)

VERSION = "5.5.0"  # the layout written: the first to have bitmaps is 5.3


def write(
    folder: Path,
    items: Iterable[Masked],
    _weights: Mapping[str, float],
    *,
    overwrite: bool = False,
) -> Iterator[Path]:
    """name.json with the path of its picture; BadExchange for a video."""
    for item in items:
        path = check_free(folder / f"{item.name}.json", overwrite=overwrite)
        frame = get_still(item, "LabelMe")
        document: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": [
                shape for name, mask in frame.items() for shape in shapes_of(name, bits_of(mask))
            ],
            "imagePath": Path(
                os.path.relpath(item.clip.path.resolve(), path.parent.resolve())
            ).as_posix(),
            "imageData": None,
            "imageHeight": item.clip.height,
            "imageWidth": item.clip.width,
        }
        with replacing(path) as draft:
            draft.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
        yield path


def shapes_of(name: str, bits: Bits) -> Iterator[dict[str, Any]]:
    """A polygon a part; the whole region as one bitmap where a polygon cannot tell it."""
    outlines, tree = cv2.findContours(
        bits.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE
    )
    holes = tree is not None and (tree[0][:, 3] >= 0).any()
    if holes or any(len(outline) < 3 for outline in outlines):
        rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
        top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
        stream = io.BytesIO()
        Image.fromarray(bits[top : bottom + 1, left : right + 1]).save(stream, "PNG")
        mask = base64.b64encode(stream.getvalue()).decode()
        corners = [[float(left), float(top)], [float(right), float(bottom)]]
        yield _shape(name, "mask", corners, mask)
        return
    for outline in outlines:
        yield _shape(name, "polygon", outline[:, 0].astype(float).tolist(), None)


def _shape(name: str, kind: str, points: list[list[float]], mask: str | None) -> dict[str, Any]:
    return {
        "label": name,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": mask,
    }


def read(source: Path, clips: Path) -> Iterator[Masked]:
    """The JSON files below a folder: polygons, rectangles (turned ones too), circles and bitmaps.

    A picture is matched by the name of its JSON. Lines and points have no area and are left out,
    which is logged.
    """
    files = sorted(source.rglob("*.json")) if source.is_dir() else [source]
    root = source if source.is_dir() else source.parent
    paths = {path.relative_to(root).as_posix(): path for path in files if _is_ours(path)}
    if not paths:
        raise BadExchange(f"{source}: holds no LabelMe file (JSON with `shapes`)")
    for name, clip, path in match_clips(source, clips, paths):
        document = read_json(path, "not JSON")
        high, wide = document.get("imageHeight"), document.get("imageWidth")
        check_size(path, clip, high or clip.height, wide or clip.width)
        with blame(path, "a shape"):
            parts = [part_of(path, shape, clip.height, clip.width) for shape in document["shapes"]]
        yield Masked(name, clip, [merge_regions(part for part in parts if part is not None)])


def _is_ours(path: Path) -> bool:
    document = read_json(path, "not JSON, remove it or save it again")
    return isinstance(document, dict) and isinstance(document.get("shapes"), list)


def part_of(
    path: Path, shape: Mapping[str, Any], height: int, width: int
) -> tuple[str, Bits] | None:
    """The region and pixels of a shape, None for lines and points; BadExchange if it is broken.

    Corners are pixels themselves, as LabelMe fills them, not points between pixels.
    """
    kind, name = shape.get("shape_type") or "polygon", shape.get("label")
    canvas = np.zeros((height, width), np.uint8)
    try:
        points = points_of(shape["points"])
        corners = points.round().astype(np.int32)
        match kind:
            case "polygon" | "rotation" | "oriented_rectangle" | "quadrilateral" | "cuboid":
                outline = cv2.convexHull(corners) if kind == "cuboid" else corners
                cv2.fillPoly(canvas, [outline], 1)
            case "rectangle" if _is_slanted(corners):
                cv2.fillPoly(canvas, [corners], 1)
            case "rectangle":
                (left, top), (right, bottom) = corners.min(0), corners.max(0)
                canvas[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = 1
            case "circle":
                radius = np.hypot(*(points[1] - points[0]))
                y, x = np.mgrid[:height, :width]
                canvas[np.hypot(x - points[0, 0], y - points[0, 1]) <= radius] = 1
            case "mask":
                _paste(canvas, shape["mask"], *corners[0].tolist())
            case _:
                log.warning("%s: a %s (%r) has no area and is left out", path, kind, name)
                return None
    except Exception as error:  # OpenCV's and Pillow's, too
        message = f"its {show(kind, 40)} {show(name)} cannot be read ({cut(str(error))})"
        raise BadExchange(f"{path}: {message}") from error
    return str(name), canvas.astype(np.bool_)


def _is_slanted(corners: NDArray[np.int32]) -> bool:
    """Whether four corners (X-AnyLabeling writes so many) are not those of an upright rectangle."""
    return len(corners) == 4 and any(len(set(axis)) > 2 for axis in corners.T.tolist())


def _paste(canvas: NDArray[np.uint8], mask: str, left: int, top: int) -> None:
    if left < 0 or top < 0:
        raise ValueError(f"it starts at {left}, {top}, outside the picture")
    with Image.open(io.BytesIO(base64.b64decode(mask)), formats=["PNG"]) as image:
        if image.height > canvas.shape[0] or image.width > canvas.shape[1]:
            raise ValueError(f"it is larger ({image.width} x {image.height}) than the picture")
        bits = np.asarray(image.convert("L")) > 0
    place = canvas[top : top + bits.shape[0], left : left + bits.shape[1]]
    place |= bits[: place.shape[0], : place.shape[1]].astype(np.uint8)


EXCHANGE = Exchange(
    summary="LabelMe, one JSON a picture",
    lossy="Soft edges become hard at one half. Regions with holes, or parts of one or two pixels,"
    " are bitmaps, which LabelMe reads from version 5.3 on.",
    write=write,
    read=read,
)
