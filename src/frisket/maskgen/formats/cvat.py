"""CVAT: "Segmentation mask 1.1" folders, written and read; "CVAT for images 1.1" XML, read."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frisket.disk.atomic import replacing
from frisket.disk.untrusted import (
    ANNOTATIONS,
    BadText,
    cut,
    parse_xml,
    read_bytes,
    read_text,
    show,
)
from frisket.maskgen.format_base import (
    BadExchange,
    Bits,
    Exchange,
    Masked,
    RegionMasks,
    bits_of,
    blame,
    check_free,
    check_size,
    fill_ellipse,
    fill_polygon,
    get_still,
    match_clips,
    merge_regions,
    points_of,
    turn_corners,
)
from frisket.masks.read import BACKGROUND
from frisket.media.frames import decode_index, decode_numbers, probe
from frisket.media.images import open_image

log = logging.getLogger(__name__)

LABELMAP = "labelmap.txt"
CLASSES, OBJECTS = "SegmentationClass", "SegmentationObject"
LIST = "ImageSets/Segmentation/default.txt"

_Colour = tuple[int, ...]


def colour_of(index: int) -> _Colour:
    """Pascal VOC's colour of a label: the bits of its index dealt out to R, G, B from the top."""
    return tuple(
        sum((index >> (3 * place + channel) & 1) << (7 - place) for place in range(8))
        for channel in range(3)
    )


def write(
    folder: Path,
    items: Iterable[Masked],
    weights: Mapping[str, float],
    *,
    overwrite: bool = False,
) -> Iterator[Path]:
    """A folder to zip and upload; BadExchange for a video.

    Where regions overlap, the earlier in the frame is on top.
    """
    labelmap = check_free(folder / LABELMAP, overwrite=overwrite)
    labels = [name for name in weights if name != BACKGROUND]
    names = []
    for item in items:
        frame = get_still(item, "CVAT's segmentation mask")
        labels += [name for name in frame if name not in labels]
        picture = _draw_picture(frame, labels, item.clip.height, item.clip.width)
        # Without an instance mask CVAT's reader makes the background an object of its own.
        for kind in (CLASSES, OBJECTS):
            path = check_free(folder / kind / f"{item.name}.png", overwrite=overwrite)
            with replacing(path) as draft:
                Image.fromarray(picture).save(draft, format="PNG")
        names.append(item.name)
        yield folder / CLASSES / f"{item.name}.png"
    lines = ["# label:color_rgb:parts:actions"]
    for index, name in enumerate([BACKGROUND, *labels]):
        lines.append(f"{name}:{','.join(map(str, colour_of(index)))}::")
    for path, text in ((labelmap, lines), (folder / LIST, names)):
        with replacing(path) as draft:
            draft.write_text("\n".join(text) + "\n", encoding="utf-8")
    yield labelmap


def _draw_picture(
    frame: RegionMasks, labels: list[str], height: int, width: int
) -> NDArray[np.uint8]:
    picture = np.zeros((height, width, 3), np.uint8)
    for name in reversed(list(frame)):
        picture[bits_of(frame[name])] = colour_of(labels.index(name) + 1)
    return picture


def read(source: Path, clips: Path) -> Iterator[Masked]:
    """An XML file, a folder with annotations.xml, or one with labelmap.txt and masks."""
    xml = source / "annotations.xml" if source.is_dir() else source
    if xml.is_file():
        yield from _read_xml(xml, clips)
    elif (source / LABELMAP).is_file():
        yield from _read_masks(source, clips)
    else:
        raise BadExchange(
            f"{source}: holds neither {LABELMAP} nor annotations.xml; export the task as"
            ' "Segmentation mask 1.1" or "CVAT for images 1.1" and unzip it'
        )


def _read_masks(source: Path, clips: Path) -> Iterator[Masked]:
    labels = _read_labels(source / LABELMAP)
    root = source / CLASSES
    paths = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*.png"))}
    if not paths:
        raise BadExchange(f"{root}: holds no mask; export the task once more and unzip it whole")
    for name, clip, path in match_clips(source, clips, paths):
        mask = probe(path)
        check_size(path, clip, mask.height, mask.width)
        with open_image(path) as image:
            indexed = image.mode in ("1", "L")
        codes = (
            decode_index(path)[0].numpy()
            if indexed
            else _encode_colours(decode_numbers(path)[0].numpy())
        )
        label_codes = {
            label: index if indexed else _encode_colour(colour)
            for index, (label, colour) in enumerate(labels.items())
        }
        strangers = set(np.unique(codes).tolist()) - {0, *label_codes.values()}
        if strangers:
            value = min(strangers)
            pixel = value if indexed else (value >> 16, value >> 8 & 255, value & 255)
            raise BadExchange(
                f"{path}: holds {pixel}, which {LABELMAP} does not name; add it there"
            )
        parts = (
            (label, codes == code) for label, code in label_codes.items() if label != BACKGROUND
        )
        yield Masked(
            name, clip, [merge_regions((label, bits) for label, bits in parts if bits.any())]
        )


def _encode_colours(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
    codes: NDArray[np.int32] = (red << 16) + (green << 8) + blue
    return codes


def _encode_colour(colour: _Colour) -> int:
    return (colour[0] << 16) + (colour[1] << 8) + colour[2]


def _read_labels(path: Path) -> dict[str, _Colour]:
    labels: dict[str, _Colour] = {}
    try:
        lines = read_text(path).splitlines()
    except BadText as error:
        raise BadExchange(f"{path}: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, colour, *_ = line.split(":")
            red, green, blue = (int(part) for part in colour.split(","))
        except ValueError as error:
            raise BadExchange(
                f"{path}:{number}: {show(line)} is no label; write name:red,green,blue::"
            ) from error
        labels[name] = (red, green, blue)
    return labels


def _read_xml(path: Path, clips: Path) -> Iterator[Masked]:
    try:
        root = parse_xml(read_bytes(path, ANNOTATIONS))
    except BadText as error:
        raise BadExchange(f"{path}: no XML ({error}); export the task once more") from error
    images = {image.get("name", ""): image for image in root.iter("image")}
    if not images:
        raise BadExchange(
            f'{path}: names no image; export the task as "CVAT for images 1.1" (a video task as'
            ' "Segmentation mask 1.1")'
        )
    for name, clip, image in match_clips(path, clips, images):
        with blame(path, f"the size of {name}"):
            high, wide = int(image.get("height", 0)), int(image.get("width", 0))
        check_size(path, clip, high, wide)
        parts = [
            part for shape in image if (part := _read_part(path, shape, high, wide)) is not None
        ]
        yield Masked(name, clip, [merge_regions(parts)])


def _read_part(path: Path, shape: Any, height: int, width: int) -> tuple[str, Bits] | None:
    name = shape.get("label")
    if shape.tag not in AREAS:
        if shape.tag != "tag":  # that is of the whole picture, by its nature
            log.warning("%s: a %s (%r) has no area and is left out", path, shape.tag, name)
        return None
    try:
        return name, AREAS[shape.tag](shape, height, width)
    except (AttributeError, TypeError, ValueError, ArithmeticError) as error:
        message = f"a {cut(str(shape.tag), 40)} {show(name)} cannot be read ({cut(str(error))})"
        raise BadExchange(f"{path}: {message}") from error


def _fill_polygon(shape: Any, height: int, width: int) -> Bits:
    pairs = [point.split(",") for point in shape.get("points").split(";")]
    return fill_polygon(points_of(pairs), height, width)


def _fill_box(shape: Any, height: int, width: int) -> Bits:
    left, top, right, bottom = (float(shape.get(side)) for side in ("xtl", "ytl", "xbr", "ybr"))
    corners = points_of([(left, top), (right, top), (right, bottom), (left, bottom)])
    return fill_polygon(turn_corners(corners, float(shape.get("rotation", 0))), height, width)


def _fill_ellipse(shape: Any, height: int, width: int) -> Bits:
    x, y, wide, high = (float(shape.get(key)) for key in ("cx", "cy", "rx", "ry"))
    return fill_ellipse((x, y), (wide, high), float(shape.get("rotation", 0)), height, width)


def _fill_cuboid(shape: Any, height: int, width: int) -> Bits:
    """What is within the outline of its eight corners."""
    keys = [(f"x{at}{face}", f"y{at}{face}") for face in "12" for at in ("tl", "bl", "tr", "br")]
    corners = points_of([(float(shape.get(x)), float(shape.get(y))) for x, y in keys])
    hull = cv2.convexHull(corners.astype(np.float32))[:, 0].astype(np.float64)
    return fill_polygon(hull, height, width)


def _read_mask(shape: Any, height: int, width: int) -> Bits:
    """Run lengths along the rows of a rectangle, starting with the run of what is outside."""
    left, top, wide, high = (int(shape.get(key)) for key in ("left", "top", "width", "height"))
    if min(left, top) < 0 or min(wide, high) < 1 or left + wide > width or top + high > height:
        raise ValueError(f"its rectangle lies outside of {width} x {height}")
    counts = [int(run) for run in shape.get("rle").split(",")]
    if min(counts) < 0 or sum(counts) != wide * high:
        raise ValueError(f"its runs make {sum(counts)} pixels, its size is {wide} x {high}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    bits = np.zeros((height, width), np.bool_)
    bits[top : top + high, left : left + wide] = flat.reshape(high, wide)
    return bits


AREAS = {
    "polygon": _fill_polygon,
    "box": _fill_box,
    "ellipse": _fill_ellipse,
    "cuboid": _fill_cuboid,
    "mask": _read_mask,
}

EXCHANGE = Exchange(
    summary='CVAT "Segmentation mask 1.1" (and reads "CVAT for images 1.1")',
    lossy="Soft edges become hard at one half, overlaps go to the first region, and all instances"
    " of a region are one object.",
    write=write,
    read=read,
)
