"""Planes of a clip made steady through time, all regions in step, memory flat."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from typing import TypeVar

from frisket.maskgen.base import RgbPicture, SoftMask
from frisket.maskgen.job import Motion
from frisket.maskgen.tracking.temporal import fill_gaps, smooth_by_median, smooth_by_motion

T = TypeVar("T")


def smooth_planes(
    planes: Iterable[Mapping[str, SoftMask]],
    frames: Iterable[RgbPicture],
    regions: Sequence[str],
    motion: Motion,
) -> Iterator[tuple[RgbPicture, dict[str, SoftMask]]]:
    """Each frame with its regions' planes: gaps filled, flicker smoothed, as `motion` asks.

    As many as came in, in order; ValueError where frames and planes differ in number. Holds the
    sum of `motion.gap` and `motion.radius` of frames, for all regions together.
    """
    # One copy of a stream for each that reads it, and none else: a copy that nobody reads would
    # keep the whole clip. They are read in step, so none is ahead by more than its window.
    readers = (motion.gap > 0) + (motion.smooth == "motion")
    pictures, *watched = copy_stream(frames, 1 + readers * len(regions))
    copies = iter(watched)
    streams = [
        _smooth(list(islice(copies, readers)), map(itemgetter(name), table), motion)
        for name, table in zip(regions, copy_stream(planes, len(regions)), strict=True)
    ]
    for picture, *settled in zip(pictures, *streams, strict=True):
        yield picture, dict(zip(regions, settled, strict=True))


def copy_stream(items: Iterable[T], count: int) -> list[Iterator[T]]:
    """As many iterators over one stream; an item is let go when all have had it.

    itertools.tee lets go of 57 at a time, which is a lot where items are frames.
    """
    source = iter(items)
    waiting: list[deque[T]] = [deque() for _ in range(count)]

    def read_copy(queue: deque[T]) -> Iterator[T]:
        while True:
            if not queue:
                try:
                    item = next(source)
                except StopIteration:
                    return
                for other in waiting:
                    other.append(item)
                del item
            yield queue.popleft()

    return [read_copy(queue) for queue in waiting]


def _smooth(
    frames: list[Iterator[RgbPicture]], planes: Iterator[SoftMask], motion: Motion
) -> Iterator[SoftMask]:
    if motion.gap:
        planes = fill_gaps(frames.pop(), planes, motion.gap)
    if motion.smooth == "motion":
        return smooth_by_motion(frames.pop(), planes, motion.radius)
    return smooth_by_median(planes, motion.radius) if motion.smooth == "median" else planes
