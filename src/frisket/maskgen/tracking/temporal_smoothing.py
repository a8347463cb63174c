"""Planes of a clip made steady through time, all regions in step, memory flat."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import TypeVar

from frisket.maskgen.base import Mask, Picture
from frisket.maskgen.job import Motion
from frisket.maskgen.tracking.temporal import compensated, filled, median

T = TypeVar("T")


def steady(
    planes: Iterable[Mapping[str, Mask]],
    frames: Iterable[Picture],
    regions: Sequence[str],
    motion: Motion,
) -> Iterator[tuple[Picture, dict[str, Mask]]]:
    """Each frame with its regions' planes: gaps filled, flicker smoothed, as `motion` asks.

    As many as came in, in order; ValueError where frames and planes differ in number. Holds the
    sum of `motion.gap` and `motion.radius` of frames, for all regions together.
    """
    # One copy of a stream for each that reads it, and none else: a copy that nobody reads would
    # keep the whole clip. They are read in step, so none is ahead by more than its window.
    readers = (motion.gap > 0) + (motion.smooth == "motion")
    shown, *watched = copied(frames, 1 + readers * len(regions))
    each = iter(watched)
    streams = [
        _one(list(islice(each, readers)), map(itemgetter(name), table), motion)
        for name, table in zip(regions, copied(planes, len(regions)), strict=True)
    ]
    for picture, *settled in zip(shown, *streams, strict=True):
        yield picture, dict(zip(regions, settled, strict=True))


def copied(items: Iterable[T], count: int) -> list[Iterator[T]]:
    """As many iterators over one stream; an item is let go when all have had it.

    itertools.tee lets go of 57 at a time, which is a lot where items are frames.
    """
    source = iter(items)
    waiting: list[deque[T]] = [deque() for _ in range(count)]

    def one(own: deque[T]) -> Iterator[T]:
        while True:
            if not own:
                try:
                    item = next(source)
                except StopIteration:
                    return
                for each in waiting:
                    each.append(item)
                del item
            yield own.popleft()

    return [one(own) for own in waiting]


def _one(frames: list[Iterator[Picture]], planes: Iterator[Mask], motion: Motion) -> Iterator[Mask]:
    if motion.gap:
        planes = filled(frames.pop(), planes, motion.gap)
    if motion.smooth == "motion":
        return compensated(frames.pop(), planes, motion.radius)
    return median(planes, motion.radius) if motion.smooth == "median" else planes
