"""Edits as the studio logs them, read from JSON within bounds and laid over a label map."""

import base64
import binascii
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frisket.disk.untrusted import show
from frisket.masks.painting.raster import FAR, GRID, PixelRun, Rule, capsule, polygon_spans

RegionIds = NDArray[np.uint8]  # H W, the region of each pixel

IDS = -1  # the plane of ids; soft planes have the number of their region
POINTS = 1 << 20  # numbers of one stroke
KINDS = ("stroke", "polygon", "fill", "pixels", "soft", "undo", "redo")


class BadStroke(ValueError):
    """A logged edit that cannot be one; names what is wrong in it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an edit leaves alone: `locked` regions, and all but `only` where it is not None."""

    locked: frozenset[int] = frozenset()
    only: int | None = None

    def allow(self, ids: RegionIds, target: int) -> NDArray[np.bool_]:
        """Where a pixel of these ids may become `target`."""
        table = np.ones(256, np.bool_)
        table[list(self.locked)] = False
        if self.only is not None:
            table[: self.only] = table[self.only + 1 :] = False
        table[target] = False
        allowed: NDArray[np.bool_] = table[ids]
        return allowed


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit; `kind` is one of KINDS, and the rest is what that kind has."""

    kind: str
    id: int = 0
    points: tuple[float, ...] = ()  # x, y, radius of a stroke; x, y of a polygon or fill
    limits: Limits = Limits()
    rule: Rule = "evenodd"
    contiguous: bool = True
    plane: int = IDS
    spans: bytes = b""  # of pixels: row, first column, column after the last, as int32 each
    values: bytes = b""


def read_edit(tree: Any, pixels: int) -> Edit:
    """An edit from its JSON tree; BadStroke for anything that is none.

    `pixels` is the size of the mask: pixels of an edit are never more, whatever they unpack to.
    """
    if not isinstance(tree, dict) or tree.get("op") not in KINDS:
        raise BadStroke(f"an edit is an object with `op` one of {', '.join(KINDS)}: {show(tree)}")
    kind = str(tree["op"])
    if kind in ("undo", "redo"):
        return Edit(kind)
    if kind == "soft":
        return _read_soft(tree)
    if kind == "pixels":
        return _read_pixels(tree, pixels)
    limits = Limits(
        frozenset(_read_id(value) for value in _read_list(tree, "locked", 256)),
        None if tree.get("only") is None else _read_id(tree["only"]),
    )
    rule = tree.get("rule", "evenodd")
    if rule not in ("evenodd", "nonzero"):
        raise BadStroke(f"`rule` is evenodd or nonzero, not {show(rule)}")
    contiguous = tree.get("contiguous", True) is True
    return Edit(kind, _read_id(tree.get("id")), _read_points(tree, kind), limits, rule, contiguous)


def _read_points(tree: Mapping[str, Any], kind: str) -> tuple[float, ...]:
    if kind == "fill":
        return _read_number(tree.get("x")), _read_number(tree.get("y"))
    points = tuple(_read_number(value) for value in _read_list(tree, "points", POINTS))
    if len(points) % (3 if kind == "stroke" else 2):
        raise BadStroke(f"{len(points)} numbers are no whole points of a {kind}")
    return points


def _read_soft(tree: Mapping[str, Any]) -> Edit:
    """A stroke on soft planes, of which no more is known here than whose it is."""
    stroke = tree.get("stroke")
    if not isinstance(stroke, dict):
        raise BadStroke(f"`stroke` is an object, not {show(stroke)}")
    return Edit("soft", plane=_read_id(stroke.get("region")))


def _read_pixels(tree: Mapping[str, Any], pixels: int) -> Edit:
    plane = tree.get("plane")
    if type(plane) is not int or not IDS <= plane <= 255:
        raise BadStroke(f"`plane` is {IDS} or a region from 0 to 255, not {show(plane)}")
    raw = _unpack(tree.get("spans"), 12 * pixels)
    values = _unpack(tree.get("values"), pixels)
    if len(raw) % 12:
        raise BadStroke(f"`spans` unpack to {len(raw)} bytes, which are no whole spans")
    triples = np.frombuffer(raw, "<i4").reshape(-1, 3)
    if triples.size and (int(triples.min()) < 0 or not (triples[:, 1] < triples[:, 2]).all()):
        raise BadStroke("`spans` hold a run that ends before it begins")
    if (length := int((triples[:, 2] - triples[:, 1]).sum())) != len(values):
        raise BadStroke(f"{len(values)} `values` for {length} pixels of `spans`")
    return Edit("pixels", plane=plane, spans=raw, values=values)


def _unpack(text: Any, most: int) -> bytes:
    """Base64 of deflated bytes; BadStroke for more than `most`, which are never unpacked."""
    if not isinstance(text, str):
        raise BadStroke(f"packed pixels are text, not {show(text)}")
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(base64.b64decode(text, validate=True), most + 1)
    except (zlib.error, binascii.Error, ValueError) as error:
        raise BadStroke(f"packed pixels cannot be unpacked ({error})") from error
    if len(raw) > most or not unpacker.eof:
        raise BadStroke(f"packed pixels are cut short, or more than {most} bytes")
    return raw


def _read_list(tree: Mapping[str, Any], key: str, most: int) -> list[Any]:
    values = tree.get(key, [])
    if not isinstance(values, list) or len(values) > most:
        raise BadStroke(f"`{key}` is a list of at most {most}, not {show(values)}")
    return values


def _read_id(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 255:
        raise BadStroke(f"a region is a number from 0 to 255, not {show(value)}")
    return value


def _read_number(value: Any) -> float:
    """A coordinate or radius on the grid; what is off it was never drawn by the studio."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadStroke(f"a coordinate is a finite number, not {show(value)}")
    if abs(value) > FAR or value * GRID != int(value * GRID):
        raise BadStroke(f"the coordinate {value!r} is not on the grid of 1/{GRID} pixel")
    return float(value)


def renumber(edit: Edit, numbers: Mapping[int, int]) -> Edit:
    """The edit with other ids; BadStroke for an id that `numbers` lacks."""
    if edit.plane != IDS or edit.kind in ("undo", "redo"):
        return edit
    used = {*edit.values} if edit.kind == "pixels" else {edit.id}
    locked, only = edit.limits.locked, edit.limits.only
    named_ids = used | locked | (set() if only is None else {only})
    if strange_ids := sorted(named_ids - numbers.keys()):
        raise BadStroke(f"an edit names the region {strange_ids[0]}, which its legend lacks")
    table = bytes(numbers.get(number, 0) for number in range(256))
    limits = Limits(
        frozenset(numbers[number] for number in locked), None if only is None else numbers[only]
    )
    changed = numbers[edit.id] if edit.kind != "pixels" else edit.id
    return replace(edit, id=changed, limits=limits, values=edit.values.translate(table))


def net(edits: Iterable[Edit]) -> list[Edit]:
    """The edits that hold: what was undone is left out, what was redone is back.

    An undo beyond the first edit (its step was made before the log began) does nothing.
    """
    done_edits: list[Edit] = []
    undone_edits: list[Edit] = []
    for edit in edits:
        if edit.kind == "undo":
            if done_edits:
                undone_edits.append(done_edits.pop())
        elif edit.kind == "redo":
            if undone_edits:
                done_edits.append(undone_edits.pop())
        else:
            done_edits.append(edit)
            undone_edits = []
    return done_edits


def apply(edit: Edit, ids: RegionIds) -> None:
    """Lay one edit over ids, in place; edits of soft planes leave ids alone.

    BadStroke for pixels outside the mask, and for an undo (see `net`).
    """
    if edit.kind in ("undo", "redo"):
        raise BadStroke(f"{edit.kind} changes the list of edits, not a mask; take `net` of it")
    if edit.plane != IDS:
        return
    if edit.kind == "pixels":
        _write_values(ids, edit.spans, edit.values)
        return
    if edit.kind == "fill":
        reached = _find_filled(ids, edit)
        ids[reached & edit.limits.allow(ids, edit.id)] = edit.id
        return
    for y, start, stop in _list_spans(edit, ids.shape):
        row = ids[y, start:stop]
        row[edit.limits.allow(row, edit.id)] = edit.id


def _list_spans(edit: Edit, shape: tuple[int, ...]) -> Iterator[PixelRun]:
    height, width = shape
    if edit.kind == "polygon":
        corners = list(zip(edit.points[::2], edit.points[1::2], strict=True))
        yield from polygon_spans(corners, edit.rule, width, height)
        return
    dabs = list(zip(edit.points[::3], edit.points[1::3], edit.points[2::3], strict=True))
    for before, dab in zip((*dabs[:1], *dabs), dabs, strict=False):
        yield from capsule(before, dab, width, height)


def _write_values(ids: RegionIds, spans: bytes, values: bytes) -> None:
    height, width = ids.shape
    content, at = np.frombuffer(values, np.uint8), 0
    triples = np.frombuffer(spans, "<i4").reshape(-1, 3)
    outside = (triples[:, 0] >= height) | (triples[:, 2] > width)
    if outside.any():
        y, start, stop = triples[outside][0]
        raise BadStroke(
            f"pixels {start} to {stop} of row {y} are outside {width} x {height} pixels"
        )
    for y, start, stop in triples.tolist():
        ids[y, start:stop] = content[at : at + stop - start]
        at += stop - start


def _find_filled(ids: RegionIds, edit: Edit) -> NDArray[np.bool_]:
    """Pixels alike in label to the point, over edges where they are to hang together."""
    height, width = ids.shape
    x, y = (math.floor(value) for value in edit.points)
    if not (0 <= x < width and 0 <= y < height):
        return np.zeros(ids.shape, np.bool_)
    alike: NDArray[np.bool_] = ids == ids[y, x]
    return _fill_from(alike, x, y) if edit.contiguous else alike


def _fill_from(alike: NDArray[np.bool_], x: int, y: int) -> NDArray[np.bool_]:
    """What of `alike` is reached from (x, y) over edges, run by run."""
    height, width = alike.shape
    reached = np.zeros(alike.shape, np.bool_)
    seeds = [(y, x)]
    while seeds:
        row, column = seeds.pop()
        if reached[row, column]:
            continue
        walls = np.flatnonzero(~alike[row])
        place = int(np.searchsorted(walls, column))
        start = int(walls[place - 1]) + 1 if place else 0
        stop = int(walls[place]) if place < len(walls) else width
        reached[row, start:stop] = True
        for other in (row - 1, row + 1):
            if not 0 <= other < height:
                continue
            open_cells = alike[other, start:stop] & ~reached[other, start:stop]
            begins = np.flatnonzero(open_cells & ~np.append(False, open_cells[:-1]))
            seeds.extend((other, start + int(begin)) for begin in begins)
    return reached
