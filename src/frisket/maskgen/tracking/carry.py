"""Finds of single frames carried by optical flow through the frames without one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from frisket.maskgen.base import Instance, Mask, Picture, Seen
from frisket.maskgen.cleanup.compose import lower
from frisket.maskgen.tracking.matching import assigned, box_of
from frisket.maskgen.tracking.temporal import bridged, onward, seen, shots
from frisket.maskgen.tracking.temporal_smoothing import copied
from frisket.maskgen.tracking.tracker import Tracked, Tracking, link

REACH = 48  # frames a person may be lost for between two finds that motion joins
ALONE = 12  # frames one find is carried for, where no other is met
FADE = 0.5  # of the score is lost by the time a find has been carried for REACH frames


@dataclass(frozen=True, slots=True)
class _Moment:
    shot: int
    picture: Picture
    found: list[Tracked]
    sure: bool  # something was found, and nothing against it


def carry(
    frames: Iterable[Picture], look: Callable[[Picture], Seen], how: Tracking
) -> Iterator[list[Tracked]]:
    """`track.link`, and then what was found carried to the frames where it was not.

    A frame counts as without a find where nothing was seen or where the answer is unsure of itself
    (its `unsure`): a person is lost whenever a head turns, and is there all the same. Between two
    finds at most REACH frames apart the masks of both are carried and blended, where the motion
    takes each of them to the other (IoU 0.5); else, and before the first and after the last find of
    a shot, one find is carried for ALONE frames. Farther away frames stay as they were found. The
    score of what is carried falls with its distance from the find. Holds REACH + 2 frames.
    """
    held: list[_Moment] = []
    for moment in _moments(frames, look, how):
        if held and held[0].shot != moment.shot:
            yield from _closed(held, None)
            held = []
        if moment.sure and held:
            yield from _closed(held, moment)
            held = []
        held.append(moment)
        if len(held) > REACH + 1:
            # Too long to be joined: what lies near the find is carried, the rest goes out.
            first = 1 + ALONE if held[0].sure else len(held) - ALONE
            yield from _closed(held[:first], None)
            held = held[first:]
    if held:
        yield from _closed(held, None)


def _moments(
    frames: Iterable[Picture], look: Callable[[Picture], Seen], how: Tracking
) -> Iterator[_Moment]:
    told: list[Seen] = []

    def find(picture: Picture) -> Sequence[Instance]:
        told.append(look(picture))
        return told[-1].instances

    shown, looked = copied(frames, 2)
    for (shot, picture), found in zip(shots(shown, how.cut), link(looked, find, how), strict=True):
        yield _Moment(shot, picture, found, bool(found) and not told.pop().unsure)


def _closed(held: Sequence[_Moment], last: _Moment | None) -> Iterator[list[Tracked]]:
    """The finds of frames held, of which only the first may be sure; `last`, not among them, is."""
    first = held[0] if held[0].sure else None
    lost = held[1:] if first else held
    if first:
        yield first.found
    if not lost:
        return
    if first and last:
        pictures = [moment.picture for moment in (first, *lost, last)]
        joined = _joined(pictures, first.found, last.found)
        if joined is not None:
            yield from joined
            return
    yield from _extend(first, lost, last)


def _extend(
    first: _Moment | None, lost: Sequence[_Moment], last: _Moment | None
) -> Iterator[list[Tracked]]:
    """Frames without a find, each with what is carried to it from the nearer end, if anything."""
    pictures = [moment.picture for moment in lost]
    ahead = _alone([first.picture, *pictures], first.found, len(lost)) if first else {}
    behind = _alone([last.picture, *pictures[::-1]], last.found, len(lost)) if last else {}
    for at, moment in enumerate(lost):
        back = len(lost) - 1 - at
        if at in ahead and not (back in behind and back < at):
            yield ahead[at]
        else:
            yield behind.get(back, moment.found)


def _joined(
    pictures: Sequence[Picture], first: Sequence[Tracked], last: Sequence[Tracked]
) -> list[list[Tracked]] | None:
    """What lies between two frames with finds; None where motion does not join all of them."""
    steps = len(pictures) - 1
    frames: list[list[Tracked]] = [[] for _ in range(steps - 1)]
    pairs = _paired(first, last)
    if len(pairs) < len(first):
        return None
    for index, other in pairs.items():
        start, end = first[index], last[other]
        masks, met = bridged(pictures, start.instance.mask, end.instance.mask)
        if not met:
            return None
        score = lower(start.instance.score, end.instance.score)
        for at, mask in enumerate(masks):
            frames[at].append(_moved(start, mask, score, min(at + 1, steps - 1 - at)))
    return frames


def _paired(first: Sequence[Tracked], last: Sequence[Tracked]) -> dict[int, int]:
    """Finds of two frames that are of one thing: by number, else by region and the nearest box."""
    close: dict[tuple[int, int], float] = {}
    for index, one in enumerate(first):
        for other, two in enumerate(last):
            if one.instance.region == two.instance.region:
                a, b = box_of(one.instance.mask), box_of(two.instance.mask)
                size = max(a.area, 1.0) ** 0.5
                away = ((a.centre[0] - b.centre[0]) ** 2 + (a.centre[1] - b.centre[1]) ** 2) ** 0.5
                close[index, other] = 3.0 if one.number == two.number else 1 / (1 + away / size)
    return assigned(close, 0.25)


def _alone(
    pictures: Sequence[Picture], found: Sequence[Tracked], lost: int
) -> dict[int, list[Tracked]]:
    """Finds of the first picture on the next ALONE: number of frames away less one, to finds."""
    reach = min(ALONE, lost)
    frames: dict[int, list[Tracked]] = {at: [] for at in range(reach)}
    for one in found:
        masks = onward(pictures[: reach + 1], one.instance.mask)
        for at, mask in enumerate(masks):
            if seen(mask):
                frames[at].append(_moved(one, mask, one.instance.score, at + 1))
    return {at: each for at, each in frames.items() if each}


def _moved(one: Tracked, mask: Mask, score: float | None, away: int) -> Tracked:
    faded = None if score is None else score * (1 - FADE * min(away / REACH, 1.0))
    return Tracked(one.number, replace(one.instance, mask=mask, score=faded, box=None))
