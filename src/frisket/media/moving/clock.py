"""When the frames of a moving file begin, from its time stamps; and which are seen at a rate."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frisket.media.picks import resample

ROUNDED = 0.001  # s: a clock that counts milliseconds, or was copied from one, is out by as much
SLACK = Fraction(1, 2000)  # s that rounding to a clock's ticks may put a frame late, at most
NEAR = 0.0005  # share by which a header may miss the rate that is meant: 24 is not 23.976
SLOWER = 1.01  # a target this much below the mean rate still drops nothing of an even jitter
# Rates that a file may have without telling, as browsers and some phones write it. Whole ones
# first: a short file, rounded to milliseconds, fits 30 and 29.97 alike.
_NTSC = ("24000/1001", "30000/1001", "60000/1001", "120000/1001")
USUAL = tuple(map(Fraction, (*range(1, 31), 48, 50, 60, 90, 100, 120, 144, 240, *_NTSC)))


@dataclass(frozen=True, slots=True)
class Clock:
    """When each of `frames` frames begins.

    Where the stamps are those of a constant rate, to the millisecond, only the rate is kept; else
    `ticks` counts from the first frame in units of `base` seconds, `end` is where the last frame
    ends, and `rate` is the mean. A file that tells no time has no rate.
    """

    frames: int = 1
    rate: Fraction | None = None
    ticks: tuple[int, ...] = ()
    base: Fraction = Fraction(1)
    end: int = 0

    @property
    def variable(self) -> bool:
        """Whether frames lie unevenly in time."""
        return bool(self.ticks)

    def begins(self) -> tuple[float, ...] | None:
        """Seconds from the first frame at which each begins; None where no time is told."""
        if self.ticks:
            return tuple(float(tick * self.base) for tick in self.ticks)
        if self.rate is None:
            return None
        return tuple(float(index / self.rate) for index in range(self.frames))

    def sample(self, target: float | int | None) -> tuple[int, ...]:
        """Indices of the frames that play at `target` frames a second; None takes every frame.

        Sample j is the latest frame that began at or before j / target seconds after the first,
        to half a tick of the file's clock (0.5 ms at most). A frame that several samples would
        show is taken once: nothing is repeated, so that pauses are shortened. A source that is
        no faster than the target keeps every frame, also where its frames come a little early or
        late (by half a frame at most).
        """
        if not target or self.rate is None:
            return tuple(range(self.frames))
        if not self.ticks:
            return resample(self.frames, float(self.rate), target)
        if float(self.rate) <= target * SLOWER and self._even():
            return tuple(range(self.frames))
        late = float(min(self.base / 2, SLACK))
        ends = np.array([*self.ticks[1:], self.end], np.float64) * float(self.base)
        ends[:-1] -= late
        # Samples that lie before the end of each frame; those before its beginning are not its.
        before = np.ceil(ends * target)
        shown_frames = np.flatnonzero(np.diff(before, prepend=0.0) > 0)
        return tuple(int(index) for index in shown_frames)

    def _even(self) -> bool:
        assert self.rate is not None
        begins = np.array(self.ticks, np.float64) * float(self.base * self.rate)
        return bool(np.abs(begins - np.arange(self.frames)).max() <= 0.5)

    def measure_pauses(self, target: float | int | None) -> float:
        """Seconds that repeated frames would have filled at `target`, and that are left out."""
        if not target or not self.ticks:
            return 0.0
        kept_count = len(self.sample(target))
        return max(float(self.end * self.base) - kept_count / target, 0.0)

    def dump(self) -> list[Any]:
        """The fields as JSON values, which `parse` reads."""
        rate = None if self.rate is None else str(self.rate)
        return [self.frames, rate, list(self.ticks), str(self.base), self.end]

    @staticmethod
    def parse(fields: Sequence[Any]) -> "Clock":
        """The inverse of `dump`."""
        frames, rate, ticks, base, end = fields
        known_rate = None if rate is None else Fraction(rate)
        return Clock(frames, known_rate, tuple(ticks), Fraction(base), end)


STILL = Clock()


def read_clock(
    stamps: Sequence[int | None],
    base: Fraction,
    last: int = 0,
    nominal: Iterable[Fraction | None] = (),
) -> Clock:
    """The clock of frames in the order they are shown, by their time stamps in units of `base`.

    `last` is how long the last frame lasts, 0 if that is not told. `nominal` are rates the file
    claims: believed where the stamps agree, or where there are no stamps. Stamps that are missing
    are filled in at the usual step; where they run backwards (joined recordings) time goes on.
    """
    count = len(stamps)
    claims = [rate for rate in nominal if rate]
    known_stamps = [(index, stamp) for index, stamp in enumerate(stamps) if stamp is not None]
    if len(known_stamps) < 2:
        return Clock(count, claims[0] if claims else None)
    step = _find_usual_step(known_stamps, base, claims)
    ticks = list(_fill_ticks(stamps, step))
    span = ticks[-1] * base
    if not span:  # every frame at once: the stamps say nothing
        return Clock(count, claims[0] if claims else None)
    # What is claimed before what only fits; a usual rate before one that rounding made of it.
    near = [rate for rate in USUAL if any(abs(rate / claim - 1) < NEAR for claim in claims)]
    for rate in (*near, *claims, *USUAL, (count - 1) / span):
        if _fits(ticks, base, rate):
            return Clock(count, rate)
    end = ticks[-1] + (last if last > 0 else step)
    return Clock(count, count / (end * base), tuple(ticks), base, end)


def _find_usual_step(
    known_stamps: Sequence[tuple[int, int]], base: Fraction, claims: Sequence[Fraction]
) -> int:
    """Ticks from one frame to the next, of stamps by index."""
    steps = [(after - before) / (j - i) for (i, before), (j, after) in pairwise(known_stamps)]
    forward = [step for step in steps if step > 0]
    if forward:
        return max(round(median(forward)), 1)
    return max(round(1 / (claims[0] * base)), 1) if claims else 1


def _fill_ticks(stamps: Sequence[int | None], step: int) -> Iterator[int]:
    """Ticks from 0 that never fall."""
    shift: int | None = None
    now = 0
    for index, stamp in enumerate(stamps):
        if shift is None and stamp is not None:
            shift = index * step - stamp
        then = now + (step if index else 0)
        if stamp is not None and shift is not None:
            if stamp + shift < now:
                shift = then - stamp
            then = stamp + shift
        yield then
        now = then


def _fits(ticks: Sequence[int], base: Fraction, rate: Fraction) -> bool:
    """Whether the stamps are those of a constant rate, but for rounding."""
    begins: NDArray[np.float64] = np.array(ticks, np.float64) * float(base)
    distances = np.abs(begins - np.arange(len(ticks)) / float(rate))
    return bool(distances.max() <= ROUNDED + 1e-9 * max(begins[-1], 1.0))
