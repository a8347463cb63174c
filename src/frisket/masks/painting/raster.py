"""Shapes to runs of pixels, by the exact rule that web/src/ink/raster.ts keeps too.

Pixel (x, y) covers [x, x + 1) by [y, y + 1); its centre is (x + 0.5, y + 0.5). A disc and a stroke
hold the pixels whose centre is no farther from it than the radius (the border counts); a polygon
holds those whose centre is inside (left and upper border count, right and lower do not). Sums are
in doubles, in the order written here: do not "simplify" them in one language alone.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

PixelRun = tuple[int, int, int]  # row, first column, column after the last
Rule = Literal["evenodd", "nonzero"]
_Point = tuple[float, float]
_Edge = tuple[float, float, float, float, int]  # upper end, lower end, 1 where drawn downward

GRID = 16  # points and radii lie on a grid of 1/16 pixel
FAR = 1 << 20  # largest coordinate; farther points are moved onto this border


def snap(value: float) -> float:
    """A coordinate on the grid, halves upwards; ValueError for NaN."""
    if math.isnan(value):
        raise ValueError("a point of a stroke is no number")
    return math.floor(min(max(value, -FAR), FAR) * GRID + 0.5) / GRID


def disc_spans(cx: float, cy: float, r: float, width: int, height: int) -> list[PixelRun]:
    """Pixels no farther than `r` from (cx, cy), and the one pixel that (cx, cy) is in."""
    return capsule((cx, cy, r), (cx, cy, r), width, height)


def capsule(
    begin: tuple[float, float, float], end: tuple[float, float, float], width: int, height: int
) -> list[PixelRun]:
    """All discs from one (x, y, radius) to another, centre and radius moving alike.

    Both ends also hold the pixel their centre is in.
    """
    (x0, y0, r0), (x1, y1, r1) = begin, end
    quad = _find_quad(begin, end)
    homes = ((math.floor(y0), math.floor(x0)), (math.floor(y1), math.floor(x1)))
    lowest, highest = min(y0 - r0, y1 - r1), max(y0 + r0, y1 + r1)
    top = max(0, min(homes[0][0], homes[1][0], math.floor(lowest)))
    last = min(height - 1, max(homes[0][0], homes[1][0], math.floor(highest)))
    spans = []
    for y in range(top, last + 1):
        left, right = _measure_row(y + 0.5, (begin, end), quad)
        starts, ends = [], []
        if left <= right:
            starts.append(math.ceil(left - 0.5))
            ends.append(math.floor(right - 0.5) + 1)
            if not starts[0] < ends[0]:
                starts, ends = [], []
        for row, column in homes:
            if y == row:
                starts.append(column)
                ends.append(column + 1)
        if starts and (start := max(min(starts), 0)) < (stop := min(max(ends), width)):
            spans.append((y, start, stop))
    return spans


def _measure_row(
    line: float, discs: Sequence[tuple[float, float, float]], quad: Sequence[_Point]
) -> tuple[float, float]:
    """Leftmost and rightmost place of two discs and the quad between them on a line."""
    left, right = math.inf, -math.inf
    for x, y, r in discs:
        dy = line - y
        inside = r * r - dy * dy
        if inside >= 0:
            half = math.sqrt(inside)
            left, right = min(left, x - half), max(right, x + half)
    for index, (ax, ay) in enumerate(quad):
        bx, by = quad[(index + 1) % 4]
        if ay == by or line < min(ay, by) or line > max(ay, by):
            continue
        x = ax + ((line - ay) * (bx - ax)) / (by - ay)
        left, right = min(left, x), max(right, x)
    return left, right


def _find_quad(
    begin: tuple[float, float, float], end: tuple[float, float, float]
) -> tuple[_Point, ...]:
    """Where the common tangents touch two discs; empty where one disc holds the other."""
    (x0, y0, r0), (x1, y1, r1) = begin, end
    dx, dy = x1 - x0, y1 - y0
    length = math.sqrt(dx * dx + dy * dy)
    if length <= abs(r0 - r1):
        return ()
    ux, uy = dx / length, dy / length
    sine = (r0 - r1) / length
    cosine = math.sqrt(1 - sine * sine)
    ax, ay = ux * sine - uy * cosine, uy * sine + ux * cosine
    bx, by = ux * sine + uy * cosine, uy * sine - ux * cosine
    return (
        (x0 + r0 * ax, y0 + r0 * ay),
        (x1 + r1 * ax, y1 + r1 * ay),
        (x1 + r1 * bx, y1 + r1 * by),
        (x0 + r0 * bx, y0 + r0 * by),
    )


def polygon_spans(points: Sequence[_Point], rule: Rule, width: int, height: int) -> list[PixelRun]:
    """Pixels inside a polygon, closed by itself; fewer than three points hold none.

    "evenodd" leaves out what is gone round twice, "nonzero" takes it in.
    """
    if len(points) < 3:
        return []
    top = max(0, math.ceil(min(y for _, y in points) - 0.5))
    last = min(height - 1, math.ceil(max(y for _, y in points) - 0.5) - 1)
    rows: list[list[_Edge]] = [[] for _ in range(max(last - top + 1, 0))]
    for (ax, ay), (bx, by) in zip(points, (*points[1:], points[0]), strict=True):
        if ay == by:
            continue
        edge: _Edge = (ax, ay, bx, by, 1) if ay < by else (bx, by, ax, ay, -1)
        first, stop = max(top, math.ceil(edge[1] - 0.5)), min(last, math.ceil(edge[3] - 0.5) - 1)
        for y in range(first, stop + 1):
            rows[y - top].append(edge)
    return [
        span for y, edges in enumerate(rows, start=top) for span in _list_row(y, edges, rule, width)
    ]


def _list_row(y: int, edges: Sequence[_Edge], rule: Rule, width: int) -> Iterator[PixelRun]:
    line = y + 0.5
    # From the upper end, so that polygons on either side of an edge meet at the same number.
    crossings = [
        (ax + ((line - ay) * (bx - ax)) / (by - ay), turn) for ax, ay, bx, by, turn in edges
    ]
    crossings.sort(key=lambda crossing: crossing[0])
    winding, entry, until = 0, 0.0, 0
    for x, turn in crossings:
        before = winding
        winding = 1 - winding if rule == "evenodd" else winding + turn
        if before == 0:
            entry = x
        elif winding == 0:
            start = max(math.ceil(entry - 0.5), until, 0)
            stop = min(math.ceil(x - 0.5), width)
            if start < stop:
                yield y, start, stop
                until = stop
