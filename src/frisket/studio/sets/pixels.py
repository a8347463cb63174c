"""Opens stills and their masks in the server: thumbnails, region ids, coverage. Never torch.

Imported when the first picture is asked for: NumPy, OpenCV and Pillow are no part of the start.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frisket.masks.painting.strokes import RegionIds
from frisket.media import images
from frisket.media.paths import BadMedia
from frisket.studio.sets.facts import Measure
from frisket.studio.sets.listing import ClipRow
from frisket.studio.sets.plan import BACKGROUND, SetPlan, list_regions

FILL, LINE = 150, 255  # opacity of a region's area and of its border, before the page's own
QUALITY = 82
HALF = 128  # level from which a pixel of a grey mask is shown as its region's


@dataclass(frozen=True, slots=True)
class LabelledMask:
    """A mask as ids H W (0 is background), and the share of the picture each region has."""

    ids: RegionIds
    shares: Mapping[str, float]
    soft: RegionIds | None = None  # of a grey mask: how much of each pixel is the region's


def make_thumb(path: Path, longest: int) -> bytes:
    """A still as WebP of `longest` pixels at most: upright and in sRGB, as the trainer sees it."""
    with images.open_image(path) as image:
        if image.format in ("JPEG", "MPO"):
            image.draft(None, (longest, longest))  # decodes an eighth of a large photo
        return encode_thumb(images.read(image, path, "rgb"), longest)


def encode_thumb(rgb: NDArray[np.uint8], longest: int) -> bytes:
    """Pixels H W 3 as WebP, no side above `longest`."""
    image = Image.fromarray(rgb)
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY, method=2)
    return stream.getvalue()


def measure_still(plan: SetPlan, row: ClipRow) -> Measure:
    """Size of a still and what its mask covers; what cannot be opened is told in the measure."""
    try:
        with images.open_image(row.path) as image:
            height, width = images.size_of(image)
    except (ValueError, OSError) as error:
        return Measure(fault=str(error))
    if not row.masks and plan.source != "alpha":
        return Measure(width, height)
    try:
        return Measure(width, height, 1, read_mask(plan, row).shares)
    except (ValueError, OSError) as error:
        return Measure(width, height, mask_fault=str(error))


def read_mask(plan: SetPlan, row: ClipRow) -> LabelledMask:
    """The mask of a still, read as `masks.read` does; BadMedia where it cannot be."""
    if plan.source == "alpha":
        return split_grey(plan, _read(row.path, "alpha"))
    if set(row.masks) == {""}:
        return split_mask(plan, row.masks[""])
    greys = {name: _read(path, "grey") for name, path in row.masks.items()}
    return join_planes(plan, greys)


def split_mask(plan: SetPlan, path: Path) -> LabelledMask:
    """One file for all regions, by legend, levels or as it is."""
    if not plan.legend:
        return split_grey(plan, _read(path, "grey"))
    if any(isinstance(value, tuple) for value in plan.legend.values()):
        return split_colours(plan, _read(path, "stored"))
    return split_labels(plan, _read(path, "index"))


def _read(path: Path, way: images.Way) -> NDArray[Any]:
    with images.open_image(path) as image:
        return images.read(image, path, way)


def split_labels(plan: SetPlan, labels: NDArray[np.integer[Any]]) -> LabelledMask:
    """Indices H W by the legend; an index that it lacks is background."""
    numbers = {region.name: region.id for region in list_regions(plan)}
    table = np.zeros(65536, np.uint8)
    for name, value in plan.legend.items():
        if isinstance(value, int) and name in numbers:
            table[value] = numbers[name]
    return _count(plan, table[labels.clip(0, 65535)])


def split_colours(plan: SetPlan, rgb: NDArray[np.uint8]) -> LabelledMask:
    """Colours H W 3 by the legend, matched exactly."""
    numbers = {region.name: region.id for region in list_regions(plan)}
    packed = (rgb.astype(np.uint32) << np.array([16, 8, 0], np.uint32)).sum(-1)
    ids = np.zeros(rgb.shape[:2], np.uint8)
    for name, colour in plan.legend.items():
        if isinstance(colour, tuple) and name != BACKGROUND:
            ids[packed == (colour[0] << 16 | colour[1] << 8 | colour[2])] = numbers[name]
    return _count(plan, ids)


def split_grey(plan: SetPlan, grey: NDArray[np.floating[Any]]) -> LabelledMask:
    """Grey H W in [0, 1]: by levels, the nearest wins; else all of it is the one region's."""
    levels = np.rint(grey * 255).astype(np.uint8)
    regions = list_regions(plan)
    if plan.levels:
        # A tie goes to the higher, and black is background where nothing names it.
        level_names = {value: name for name, value in plan.levels.items()}
        values = np.array(sorted({0, *level_names}), np.int16)
        far = np.abs(np.arange(256, dtype=np.int16)[:, None] - values[None, ::-1])
        nearest = values[::-1][far.argmin(1)]
        numbers = {region.name: region.id for region in regions}
        table = np.array([numbers.get(level_names.get(int(v), ""), 0) for v in nearest], np.uint8)
        return _count(plan, table[levels])
    if plan.invert:
        levels = 255 - levels
    region = regions[0]
    share = float(levels.mean(dtype=np.float64)) / 255
    ids = np.where(levels >= HALF, np.uint8(region.id), np.uint8(0))
    return LabelledMask(ids, {region.name: share}, levels)


def join_planes(plan: SetPlan, planes: Mapping[str, NDArray[np.floating[Any]]]) -> LabelledMask:
    """One grey plane H W a region as ids: the strongest wins where it is at least half."""
    sizes = {plane.shape for plane in planes.values()}
    if len(sizes) > 1:
        raise BadMedia(f"the masks of its regions have different sizes: {sorted(sizes)}")
    numbers = {region.name: region.id for region in list_regions(plan)}
    names = [name for name in planes if name in numbers]
    if not names:
        raise BadMedia(f"its masks are of the regions {sorted(planes)}, which the set has not")
    stack = np.stack([planes[name] for name in names])
    if plan.invert:
        stack = 1 - stack
    lookup = np.array([numbers[name] for name in names], np.uint8)
    ids = np.where(stack.max(0) >= 0.5, lookup[stack.argmax(0)], np.uint8(0))
    shares = {
        name: float(plane.mean(dtype=np.float64)) for name, plane in zip(names, stack, strict=True)
    }
    return LabelledMask(ids, shares)


def _count(plan: SetPlan, ids: RegionIds) -> LabelledMask:
    counts = np.bincount(ids.ravel(), minlength=256)
    shares = {
        region.name: float(counts[region.id]) / max(ids.size, 1) for region in list_regions(plan)
    }
    return LabelledMask(ids, shares)


def draw_overlay(plan: SetPlan, mask: LabelledMask, longest: int) -> bytes:
    """Regions in their colours with a border line, as WebP with alpha, no side above `longest`."""
    height, width = mask.ids.shape
    scale = min(1.0, longest / max(height, width))
    rows = _pick(height, max(1, round(height * scale)))
    columns = _pick(width, max(1, round(width * scale)))
    ids = mask.ids[rows[:, None], columns]
    palette = np.zeros((256, 4), np.uint8)
    for region in list_regions(plan):
        palette[region.id] = (*bytes.fromhex(region.colour[1:]), FILL)
    if mask.soft is not None:
        region = list_regions(plan)[0]
        colour = palette[region.id].copy()
        rgba = np.broadcast_to(colour, (*ids.shape, 4)).copy()
        soft = mask.soft[rows[:, None], columns]
        rgba[..., 3] = (soft.astype(np.uint16) * FILL // 255).astype(np.uint8)
    else:
        rgba = palette[ids]
    rgba[_find_borders(ids), 3] = LINE
    stream = io.BytesIO()
    Image.fromarray(rgba).save(stream, "WEBP", lossless=True, method=0)
    return stream.getvalue()


def _pick(size: int, count: int) -> NDArray[np.intp]:
    """The pixel in the middle of each of `count` equal stretches."""
    return ((np.arange(count) + 0.5) * size / count).astype(np.intp)


def _find_borders(ids: RegionIds) -> NDArray[np.bool_]:
    """Pixels of a region next to one of another, within the region."""
    edges = np.zeros(ids.shape, bool)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges & (ids > 0)


def draw_ids(plan: SetPlan, body: bytes, size: tuple[int, int], longest: int) -> bytes:
    """The overlay of ids H W as bytes, which `frisket serve` read of a video's mask."""
    ids = np.frombuffer(body, np.uint8).reshape(size)
    return draw_overlay(plan, LabelledMask(ids, {}), longest)
