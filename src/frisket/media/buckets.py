"""Choose the (height, width) a clip is trained at."""

import math
from collections.abc import Iterator

from frisket.grid import LatentGrid

LONGEST = 4  # widest aspect ratio of a bucket; longer clips are cropped


def _check_fixed(width: int, height: int, grid: LatentGrid) -> tuple[int, int]:
    step = grid.step
    if width < 1 or height < 1 or width % step or height % step:
        near = [max(step, round(side / step) * step) for side in (width, height)]
        raise ValueError(
            f"resolution {width} x {height} (width x height) does not fit: sides are multiples of"
            f" {step} for this model; the nearest is {near[0]} x {near[1]}"
        )
    return height, width


def _list_candidates(area: int, step: int) -> Iterator[tuple[int, int]]:
    for units in range(1, math.isqrt(LONGEST * area) // step + 1):
        side = units * step
        other = area // side // step * step
        if other and max(side, other) <= LONGEST * min(side, other):
            yield side, other
            yield other, side


def bucket(
    height: int,
    width: int,
    frames: int,
    *,
    resolution: int | tuple[int, int],
    grid: LatentGrid,
    keep_aspect: bool,
    enlarge: bool = True,
) -> tuple[int, int]:
    """(height, width) for a clip, in multiples of `grid.step`.

    `resolution` is the side of a square of equal area, or (width, height). With `keep_aspect` it
    only sets the area: the bucket has at most that area and, of all such, the aspect ratio that
    crops the clip least (at most 1:4); without `enlarge` a clip of less area keeps its own sides,
    cut to steps. Without `keep_aspect`, it is the frame itself: every clip gets it.
    Raises ValueError for a fixed frame that is no multiple (naming the nearest that is), an area
    below one step, and a frame count the grid does not take.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a clip of {width} x {height} pixels has no size")
    wide, high = (resolution, resolution) if isinstance(resolution, int) else resolution
    if keep_aspect and not enlarge and height * width < wide * high:
        step = grid.step
        target = max(step, height // step * step), max(step, width // step * step)
    elif keep_aspect:
        target = _choose_nearest(height / width, wide, high, grid.step)
    else:
        target = _check_fixed(wide, high, grid)
    grid.cells(frames, *target)
    return target


def _choose_nearest(aspect: float, wide: int, high: int, step: int) -> tuple[int, int]:
    area = wide * high
    if wide < 1 or high < 1 or area < step * step:
        raise ValueError(
            f"resolution {wide} x {high} (width x height) is less than one step of this model;"
            f" give at least {step}"
        )

    def cost(candidate: tuple[int, int]) -> tuple[float, int]:
        rows, columns = candidate
        cropped = abs(math.log(rows / columns / aspect))
        shrunk = math.log(area / (rows * columns))
        # Content cut off is lost for good, area only makes it coarser: hence the unequal weights.
        # The last entry breaks ties the same way everywhere.
        return round(cropped + 0.25 * shrunk, 9), -columns

    return min(set(_list_candidates(area, step)), key=cost)
