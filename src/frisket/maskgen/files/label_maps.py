"""Label maps as pictures, and the legend that names their numbers. Needs no torch."""

import json
from collections.abc import Iterable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from frisket.disk.untrusted import BadText, parse_json, read_text, show
from frisket.evaluation.contact_sheet import REGION_COLOURS
from frisket.masks.names import BACKGROUND
from frisket.media.images import open_image
from frisket.media.paths import replacing

CHUNK = "frisket-legend"  # of a PNG, holding its legend as JSON
TOP = 255  # the highest index of a label map


class BadLegend(ValueError):
    """A legend that cannot be read or extended; names the file, the fault and the fix."""


def read_legend(path: Path) -> dict[str, int]:
    """Region to index of a legend file, {} where there is none; BadLegend where it is damaged."""
    try:
        return _parse_legend(path, read_text(path))
    except FileNotFoundError:
        return {}
    except BadText as error:
        raise BadLegend(f"{path}: {error}; restore it") from error


def _parse_legend(path: Path, text: str | bytes) -> dict[str, int]:
    fix = 'it should be like {"face": 1, "hair": 2}, each index once, from 1 to 255'
    try:
        legend = parse_json(text)
    except BadText as error:
        raise BadLegend(f"{path}: its legend is not JSON ({error}); {fix}") from error
    if not isinstance(legend, dict):
        raise BadLegend(f"{path}: its legend is a {type(legend).__name__}; {fix}")
    for name, index in legend.items():
        if type(index) is not int or not 1 <= index <= TOP:
            raise BadLegend(f"{path}: {show(name)} has the index {show(index)}; {fix}")
    if len(set(legend.values())) < len(legend):
        raise BadLegend(f"{path}: two regions share an index in {show(legend)}; {fix}")
    return legend


def extend_legend(path: Path, regions: Iterable[str]) -> dict[str, int]:
    """The legend of a mask folder, with new indices for regions it does not know yet.

    Indices once given stay, so label maps of earlier runs stay true. Call it once, before any
    worker writes. BadLegend where the file is damaged or full; ValueError for a region that cannot
    be one (`background`, a name that cannot be a folder).
    """
    earlier = read_legend(path)
    legend = dict(earlier)
    for name in regions:
        if name == BACKGROUND:
            raise ValueError(f"regions: {BACKGROUND!r} is what no region covers, index 0; leave it")
        if not name or name.startswith(".") or set(name) & set('/\\:\0"<>|?*'):
            raise ValueError(f"regions: {name!r} cannot be the name of a folder; use letters")
        legend.setdefault(name, max(legend.values(), default=0) + 1)
    if (top := max(legend.values(), default=0)) > TOP:
        raise BadLegend(
            f"{path}: {len(legend)} regions need the index {top}, but a label map ends at {TOP};"
            " use another mask folder, or fewer regions"
        )
    if legend != earlier:
        with replacing(path) as draft:
            draft.write_text(json.dumps(legend, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return legend


def save_labels(
    target: Path | BytesIO, indices: NDArray[np.uint8], legend: Mapping[str, int]
) -> None:
    """Write H W indices as PNG of mode P: black is 0, regions have their report colours.

    The legend goes along as text; it is to hold every index (`find_stranger`).
    """
    image = Image.fromarray(indices)
    image.putpalette(build_palette(legend))
    info = PngImagePlugin.PngInfo()
    info.add_text(CHUNK, json.dumps(dict(legend)))
    image.save(target, format="PNG", pnginfo=info)


def find_stranger(indices: NDArray[np.integer[Any]], legend: Mapping[str, int]) -> int | None:
    """The lowest index that the legend lacks."""
    present = np.flatnonzero(np.bincount(indices.ravel()))
    return next((int(index) for index in present if index not in {0, *legend.values()}), None)


def build_palette(legend: Mapping[str, int]) -> bytes:
    """Red, green and blue of every index up to the highest of the legend."""
    palette = np.zeros((max(legend.values(), default=0) + 1, 3), np.uint8)
    for index in legend.values():
        palette[index] = REGION_COLOURS[(index - 1) % len(REGION_COLOURS)]
    return palette.tobytes()


def read_png_legend(path: Path) -> dict[str, int]:
    """The legend a label PNG carries; {} where another program wrote it."""
    with open_image(path) as image:
        text = image.info.get(CHUNK, "{}")
    return _parse_legend(path, text)
