"""COCO instance annotations: one JSON, run lengths down the columns, a category a region."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frisket.disk.atomic import replacing
from frisket.disk.untrusted import cut, show
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
    fill_polygon,
    get_still,
    match_clips,
    merge_regions,
    points_of,
    read_json,
    turn_corners,
)

Runs = NDArray[np.int64]  # N

log = logging.getLogger(__name__)

FILE = "annotations.json"
LONGEST = 7  # letters of one packed run length, 34 bits and a sign; no picture has more


def counts_of(bits: Bits) -> Runs:
    """Run lengths of H W read column by column, starting with the run of what is outside."""
    flat = bits.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    start = [0, 0] if flat.size and flat[0] else [0]
    return np.diff(np.concatenate([start, edges, [flat.size]]))


def decode_counts(counts: Sequence[int] | Runs, height: int, width: int) -> Bits:
    """H W from run lengths; ValueError where they do not add up to it."""
    runs = np.asarray(counts)
    if runs.ndim != 1 or (runs.size and runs.dtype.kind not in "iub"):
        raise ValueError("run lengths are whole numbers in one row")
    area = height * width
    outside = runs[(runs < 0) | (runs > area)]
    if outside.size or runs.sum() != area:
        total = f"hold {outside[0]}" if outside.size else f"add up to {runs.sum()}"
        raise ValueError(f"run lengths {total} and do not fill {height} x {width}")
    flat = np.repeat(np.arange(runs.size) % 2 == 1, runs.astype(np.int64))
    return flat.reshape((height, width), order="F")


def pack_counts(counts: Runs) -> str:
    """Run lengths as pycocotools packs them: each but the first three less the one two before.

    Five bits a character from the lowest, a sixth that says that more follow, plus 48.
    """
    left = counts.copy()
    left[3:] -= counts[1:-2]
    columns, more = [], np.ones(len(left), np.bool_)
    while more.any():
        low, left = left & 31, left >> 5
        follows = more & (left != np.where(low & 16, -1, 0))
        columns.append(np.where(more, 48 + (low | (follows << 5)), 0))
        more = follows
    letters = np.stack(columns, 1) if columns else np.zeros((0, 1), np.int64)
    return letters[letters > 0].astype(np.uint8).tobytes().decode("ascii")


def unpack_counts(text: str) -> Runs:
    """The reverse of `pack_counts`; ValueError for text that is none.

    pycocotools itself is not for files of strangers: text that fits no mask gives it memory that
    was never written, or ends the program (docs/libraries.md).
    """
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64) - 48
    wrong = np.flatnonzero((codes < 0) | (codes > 63))
    if wrong.size:
        raise ValueError(f"{text[wrong[0]]!r} is no letter of packed run lengths here")
    last = np.flatnonzero(codes & 32 == 0)
    if codes.size and (not last.size or last[-1] != codes.size - 1):
        raise ValueError("packed run lengths end within a number")
    first = np.concatenate([[0], last[:-1] + 1]) if last.size else last
    lengths = last - first + 1
    if lengths.max(initial=0) > LONGEST:
        raise ValueError(f"packed run lengths hold a number of {lengths.max()} letters")
    shifts = 5 * (np.arange(codes.size) - np.repeat(first, lengths))
    counts = np.add.reduceat((codes & 31) << shifts, first) if last.size else last
    counts -= np.where(codes[last] & 16, 1 << (5 * lengths), 0)
    counts[1::2], counts[2::2] = counts[1::2].cumsum(), counts[2::2].cumsum()
    return counts


def write(
    folder: Path,
    items: Iterable[Masked],
    weights: Mapping[str, float],
    *,
    overwrite: bool = False,
) -> Iterator[Path]:
    """annotations.json with all pictures; BadExchange for a video.

    Categories are those of `weights`, numbered in their order; the numbers are not baked in.
    """
    path = check_free(folder / FILE, overwrite=overwrite)
    names = [name for name in weights if name != "background"]
    ids = {name: index for index, name in enumerate(names, 1)}
    pictures: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(items, 1):
        clip, frame = item.clip, get_still(item, "COCO")
        size = {"height": clip.height, "width": clip.width}
        file = f"{item.name}{clip.path.suffix}"
        pictures.append({"id": number, "file_name": file, **size})
        for annotation in _list_annotations(frame, ids):
            annotations.append({"id": len(annotations) + 1, "image_id": number, **annotation})
    categories = [{"id": index, "name": name} for name, index in ids.items()]
    document = {"images": pictures, "annotations": annotations, "categories": categories}
    with replacing(path) as draft:
        draft.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
    yield path


def _list_annotations(frame: RegionMasks, ids: dict[str, int]) -> Iterator[dict[str, Any]]:
    for name, mask in frame.items():
        bits = bits_of(mask)
        if not bits.any():
            continue
        ids.setdefault(name, len(ids) + 1)
        rows, columns = np.flatnonzero(bits.any(1)), np.flatnonzero(bits.any(0))
        left, top = int(columns[0]), int(rows[0])
        yield {
            "category_id": ids[name],
            "segmentation": {"size": list(bits.shape), "counts": pack_counts(counts_of(bits))},
            "bbox": [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1],
            "area": int(bits.sum()),
            "iscrowd": 0,
        }


def read(source: Path, clips: Path) -> Iterator[Masked]:
    """A JSON file, or the one in a folder: run lengths packed or not, and polygons."""
    path = _find_file(source)
    document = read_json(path, "no COCO instance annotations")
    try:
        names = {entry["id"]: str(entry["name"]) for entry in document["categories"]}
        pictures = {entry["id"]: entry for entry in document["images"]}
        parts: dict[Any, list[dict[str, Any]]] = {number: [] for number in pictures}
        for entry in document["annotations"]:
            parts[entry["image_id"]].append(entry)
        by_file = {str(entry["file_name"]): entry for entry in pictures.values()}
    except (ValueError, LookupError, TypeError) as error:
        raise BadExchange(
            f"{path}: no COCO instance annotations ({cut(repr(error))}); it needs images,"
            " annotations and categories that name each other by id"
        ) from error
    _tell_boxes(path, (part for entry in parts.values() for part in entry))
    for name, clip, picture in match_clips(path, clips, by_file):
        with blame(path, f"the annotation of {name}"):
            check_size(path, clip, int(picture["height"]), int(picture["width"]))
            pieces = [
                (names[part["category_id"]], _read_bits(path, part, clip.height, clip.width))
                for part in parts[picture["id"]]
            ]
        yield Masked(name, clip, [merge_regions(pieces)])


def _find_file(source: Path) -> Path:
    if not source.is_dir():
        return source
    paths = [source / FILE] if (source / FILE).is_file() else sorted(source.glob("*.json"))
    if len(paths) != 1:
        raise BadExchange(
            f"{source}: holds {len(paths)} JSON files; name the one with the annotations"
        )
    return paths[0]


def _fill_box(part: Mapping[str, Any], height: int, width: int) -> Bits:
    """The pixels of an annotation that has no more than a box, turned if it says so (CVAT does)."""
    edges = part.get("bbox")
    if not edges:
        raise ValueError("there is neither an outline nor a box")
    left, top, wide, high = (float(edge) for edge in edges)
    right, bottom = left + wide, top + high
    corners = points_of([(left, top), (right, top), (right, bottom), (left, bottom)])
    attributes = part.get("attributes")
    degrees = attributes.get("rotation", 0) if isinstance(attributes, dict) else 0
    return fill_polygon(turn_corners(corners, float(degrees)), height, width)


def _tell_boxes(path: Path, parts: Iterable[Mapping[str, Any]]) -> None:
    """Say once how many annotations have no outline."""
    boxes = sum(not part.get("segmentation") and bool(part.get("bbox")) for part in parts)
    if boxes:
        message = "%s: %d annotations have a box and no outline; the box is taken as the mask"
        log.warning(message, path, boxes)


def _read_bits(path: Path, part: Mapping[str, Any], height: int, width: int) -> Bits:
    shape = part.get("segmentation")
    try:
        if not shape:
            return _fill_box(part, height, width)
        if isinstance(shape, dict) and list(shape.get("size", (height, width))) != [height, width]:
            raise ValueError(f"its run lengths are for {show(shape['size'])} (height, width)")
        if isinstance(shape, list):
            bits = np.zeros((height, width), np.bool_)
            for flat in shape:
                bits |= fill_polygon(points_of(flat), height, width)
            return bits
        counts = shape["counts"]
        return decode_counts(
            unpack_counts(counts) if isinstance(counts, str) else counts, height, width
        )
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise BadExchange(
            f"{path}: annotation {show(part.get('id'))} has no segmentation that fits its picture"
            f" ({cut(str(error))}); give run lengths or polygons"
        ) from error


EXCHANGE = Exchange(
    summary="COCO instance annotations, one JSON (packed run lengths)",
    lossy="Soft edges become hard at one half. All instances of a region are one annotation.",
    write=write,
    read=read,
)
