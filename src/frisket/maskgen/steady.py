"""Planes of a clip made steady through time, all regions in step, memory flat."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import tee
from operator import itemgetter

from frisket.maskgen.base import Mask, Picture
from frisket.maskgen.job import Motion
from frisket.maskgen.temporal import compensated, filled, median


def steady(
    planes: Iterable[Mapping[str, Mask]],
    frames: Iterable[Picture],
    regions: Sequence[str],
    motion: Motion,
) -> Iterator[tuple[Picture, dict[str, Mask]]]:
    """Each frame with its regions' planes: gaps filled, flicker smoothed, as `motion` asks.

    As many as came in, in order; ValueError where frames and planes differ in number. Holds the
    longer of `motion.gap` and `motion.radius` of frames, for all regions together.
    """
    # One copy of both streams a region, and one of the frames to hand on: they are read in step,
    # so that no copy runs ahead of another by more than its window.
    shown, *watched = tee(frames, 1 + len(regions))
    split = tee(planes, len(regions))
    streams = [
        _one(own, map(itemgetter(name), table), motion)
        for name, own, table in zip(regions, watched, split, strict=True)
    ]
    for picture, *settled in zip(shown, *streams, strict=True):
        yield picture, dict(zip(regions, settled, strict=True))


def _one(frames: Iterator[Picture], planes: Iterable[Mask], motion: Motion) -> Iterator[Mask]:
    watching, again = tee(frames)
    steps = iter(planes)
    if motion.gap:
        steps = filled(watching, steps, motion.gap)
    else:
        del watching
    match motion.smooth:
        case "median":
            return median(steps, motion.radius)
        case "motion":
            return compensated(again, steps, motion.radius)
        case _:
            return steps
