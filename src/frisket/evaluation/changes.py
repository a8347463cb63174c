"""How far pictures moved from the base's, measured by how far another seed moves them."""

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from frisket.shapes import Frames

STILL = 1e-6  # spread of the base's pictures under which they are all one


def measure_changes(ours: Sequence[Frames], theirs: Sequence[Frames]) -> list[float]:
    """Distance of each picture to the base's of the same prompt and seed, F H W 3 of 0 to 255.

    Root mean squares, as shares of the mean distance between two of the base's own pictures: 0 is
    the same picture, 1 as different as another seed or prompt makes it. Of a single picture of the
    base the yardstick is its own contrast. The unit is the base's own variety, so that a number
    means the same on a model of 32 pixels and on one of a thousand.
    """
    between = [_measure_distance(first, other) for first, other in combinations(theirs, 2)]
    scale = fmean(between) if between else float(theirs[0].float().std())
    return [
        _measure_distance(first, other) / max(scale, STILL)
        for first, other in zip(ours, theirs, strict=True)
    ]


def _measure_distance(first: Frames, other: Frames) -> float:
    length = min(len(first), len(other))
    return float((first[:length].float() - other[:length].float()).square().mean().sqrt())
