"""Where the subjects of a mix go: size and place of each, so that none hides another."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from frisket.data.rng import draw
from frisket.shapes import Plane

TRIES = 24  # sizes and places drawn for a subject before the mix is given up


@dataclass(frozen=True, slots=True)
class Placement:
    """How a subject is laid: its picture scaled, then moved by whole pixels (or cells)."""

    scale: float
    down: int
    right: int


Resize = Callable[[Tensor, float], Tensor]


def find_places(
    subjects: Sequence[Tensor],
    size: tuple[int, int],
    *question: Hashable,
    stays: bool,
    scale: tuple[float, float],
    overlap: float,
    resize: Resize,
) -> tuple[Placement, ...] | None:
    """A place for every subject within `size` (height, width), or None where there is no room.

    `subjects` are planes F Y X in [0, 1] of what is pasted, each of its own clip's size, in the
    order they are laid. Sizes are drawn evenly within `scale`, places evenly among those that hold
    the subject whole, by the `question`, which always gets the same answer. Of each subject at most
    the share `overlap` is hidden by those above it. `stays`: the first one keeps its size and
    place. None too for a subject that has no pixel.
    """
    places: list[Placement] = []
    visible: list[tuple[Plane, float]] = []  # of each subject so far, and its whole area
    for number, subject in enumerate(subjects):
        if number == 0 and stays:
            place, plane = Placement(1.0, 0, 0), subject
        else:
            placement = _find_place(
                subject, size, (*question, number), visible, scale, overlap, resize
            )
            if placement is None:
                return None
            place, plane = placement
        area = float(plane.sum())
        if area == 0:
            return None
        visible = [(lower * (1 - plane), full_area) for lower, full_area in visible]
        visible.append((plane, area))
        places.append(place)
    return tuple(places)


def _find_place(
    subject: Tensor,
    size: tuple[int, int],
    question: tuple[Hashable, ...],
    visible: Sequence[tuple[Plane, float]],
    scale: tuple[float, float],
    overlap: float,
    resize: Resize,
) -> tuple[Placement, Plane] | None:
    for attempt in range(TRIES):
        share = scale[0] + (scale[1] - scale[0]) * draw("scale", *question, attempt)
        plane = resize(subject, share)
        box = find_box(plane)
        if box is None:
            return None
        (top, bottom), (left, right) = box
        free = (size[0] - (bottom - top), size[1] - (right - left))
        if min(free) < 0:
            continue
        row = int(draw("row", *question, attempt) * (free[0] + 1))
        column = int(draw("column", *question, attempt) * (free[1] + 1))
        canvas = lay_plane(plane, size, row - top, column - left)
        if all(
            float((lower * (1 - canvas)).sum()) >= (1 - overlap) * area for lower, area in visible
        ):
            return Placement(share, row - top, column - left), canvas
    return None


def find_box(plane: Plane) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Rows and columns (from, until) that hold all of a plane over its frames; None if empty."""
    filled = plane.amax(0) > 0
    rows, columns = filled.any(1).nonzero(), filled.any(0).nonzero()
    if not len(rows):
        return None
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def find_overlap(
    source: tuple[int, int], size: tuple[int, int], place: Placement
) -> tuple[slice, ...]:
    """Where a picture of `source` (height, width) moved by `place` meets a canvas of `size`.

    Rows and columns of the canvas, then rows and columns of the picture.
    """
    slices = []
    for length, extent, offset in zip(source, size, (place.down, place.right), strict=True):
        start, end = max(offset, 0), max(min(offset + length, extent), offset, 0)
        slices += [slice(start, end), slice(start - offset, end - offset)]
    rows, from_rows, columns, from_columns = slices
    return rows, columns, from_rows, from_columns


def lay_plane(plane: Tensor, size: tuple[int, int], down: int, right: int) -> Plane:
    """A plane (F H W) moved on an empty canvas of `size`; what falls outside is lost."""
    canvas = torch.zeros(len(plane), *size)
    source = (plane.shape[1], plane.shape[2])
    rows, columns, from_rows, from_columns = find_overlap(source, size, Placement(1.0, down, right))
    canvas[:, rows, columns] = plane[:, from_rows, from_columns]
    return canvas
