"""Finds of single frames carried by optical flow through the frames without one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from frisket.maskgen.base import Detections, Instance, RgbPicture, SoftMask
from frisket.maskgen.cleanup.stages import pick_lowest
from frisket.maskgen.tracking.matching import assign, box_of
from frisket.maskgen.tracking.temporal import carry_onward, has_pixels, split_shots, try_bridge
from frisket.maskgen.tracking.temporal_smoothing import copy_stream
from frisket.maskgen.tracking.tracker import Tracked, Tracking, link

REACH = 48  # frames a person may be lost for between two finds that motion joins
ALONE = 12  # frames one find is carried for, where no other is met
FADE = 0.5  # of the score is lost by the time a find has been carried for REACH frames


@dataclass(frozen=True, slots=True)
class _Moment:
    shot: int
    picture: RgbPicture
    tracks: list[Tracked]
    is_sure: bool  # something was found, and nothing against it


def carry(
    frames: Iterable[RgbPicture], detect: Callable[[RgbPicture], Detections], how: Tracking
) -> Iterator[list[Tracked]]:
    """`track.link`, and then what was found carried to the frames where it was not.

    A frame counts as without a find where nothing was seen or where the answer is unsure of itself
    (its `unsure`): a person is lost whenever a head turns, and is there all the same. Between two
    finds at most REACH frames apart the masks of both are carried and blended, where the motion
    takes each of them to the other (IoU 0.5); else, and before the first and after the last find of
    a shot, one find is carried for ALONE frames. Farther away frames stay as they were found. The
    score of what is carried falls with its distance from the find. Holds REACH + 2 frames.
    """
    moments: list[_Moment] = []
    for moment in _read_moments(frames, detect, how):
        if moments and moments[0].shot != moment.shot:
            yield from _close(moments, None)
            moments = []
        if moment.is_sure and moments:
            yield from _close(moments, moment)
            moments = []
        moments.append(moment)
        if len(moments) > REACH + 1:
            # Too long to be joined: what lies near the find is carried, the rest goes out.
            first = 1 + ALONE if moments[0].is_sure else len(moments) - ALONE
            yield from _close(moments[:first], None)
            moments = moments[first:]
    if moments:
        yield from _close(moments, None)


def _read_moments(
    frames: Iterable[RgbPicture], detect: Callable[[RgbPicture], Detections], how: Tracking
) -> Iterator[_Moment]:
    answers: list[Detections] = []

    def find(picture: RgbPicture) -> Sequence[Instance]:
        answers.append(detect(picture))
        return answers[-1].instances

    pictures, looked = copy_stream(frames, 2)
    for (shot, picture), tracks in zip(
        split_shots(pictures, how.cut), link(looked, find, how), strict=True
    ):
        yield _Moment(shot, picture, tracks, bool(tracks) and not answers.pop().unsure)


def _close(moments: Sequence[_Moment], last: _Moment | None) -> Iterator[list[Tracked]]:
    """The finds of frames held, of which only the first may be sure; `last`, not among them, is."""
    first = moments[0] if moments[0].is_sure else None
    missing = moments[1:] if first else moments
    if first:
        yield first.tracks
    if not missing:
        return
    if first and last:
        pictures = [moment.picture for moment in (first, *missing, last)]
        joined = _join(pictures, first.tracks, last.tracks)
        if joined is not None:
            yield from joined
            return
    yield from _extend(first, missing, last)


def _extend(
    first: _Moment | None, missing: Sequence[_Moment], last: _Moment | None
) -> Iterator[list[Tracked]]:
    """Frames without a find, each with what is carried to it from the nearer end, if anything."""
    pictures = [moment.picture for moment in missing]
    ahead = _carry_onward([first.picture, *pictures], first.tracks, len(missing)) if first else {}
    behind = (
        _carry_onward([last.picture, *pictures[::-1]], last.tracks, len(missing)) if last else {}
    )
    for at, moment in enumerate(missing):
        back = len(missing) - 1 - at
        if at in ahead and not (back in behind and back < at):
            yield ahead[at]
        else:
            yield behind.get(back, moment.tracks)


def _join(
    pictures: Sequence[RgbPicture], first: Sequence[Tracked], last: Sequence[Tracked]
) -> list[list[Tracked]] | None:
    """What lies between two frames with finds; None where motion does not join all of them."""
    steps = len(pictures) - 1
    frames: list[list[Tracked]] = [[] for _ in range(steps - 1)]
    pairs = _pair(first, last)
    if len(pairs) < len(first):
        return None
    for index, other in pairs.items():
        start, end = first[index], last[other]
        masks, meets = try_bridge(pictures, start.instance.mask, end.instance.mask)
        if not meets:
            return None
        score = pick_lowest(start.instance.score, end.instance.score)
        for at, mask in enumerate(masks):
            frames[at].append(_move(start, mask, score, min(at + 1, steps - 1 - at)))
    return frames


def _pair(first: Sequence[Tracked], last: Sequence[Tracked]) -> dict[int, int]:
    """Finds of two frames that are of one thing: by number, else by region and the nearest box."""
    close: dict[tuple[int, int], float] = {}
    for index, first_track in enumerate(first):
        for other, last_track in enumerate(last):
            if first_track.instance.region == last_track.instance.region:
                a, b = box_of(first_track.instance.mask), box_of(last_track.instance.mask)
                size = max(a.area, 1.0) ** 0.5
                away = ((a.centre[0] - b.centre[0]) ** 2 + (a.centre[1] - b.centre[1]) ** 2) ** 0.5
                close[index, other] = (
                    3.0 if first_track.number == last_track.number else 1 / (1 + away / size)
                )
    return assign(close, 0.25)


def _carry_onward(
    pictures: Sequence[RgbPicture], tracks: Sequence[Tracked], frame_count: int
) -> dict[int, list[Tracked]]:
    """Finds of the first picture on the next ALONE: number of frames away less one, to finds."""
    reach = min(ALONE, frame_count)
    frames: dict[int, list[Tracked]] = {at: [] for at in range(reach)}
    for tracked in tracks:
        masks = carry_onward(pictures[: reach + 1], tracked.instance.mask)
        for at, mask in enumerate(masks):
            if has_pixels(mask):
                frames[at].append(_move(tracked, mask, tracked.instance.score, at + 1))
    return {at: carried for at, carried in frames.items() if carried}


def _move(tracked: Tracked, mask: SoftMask, score: float | None, away: int) -> Tracked:
    faded = None if score is None else score * (1 - FADE * min(away / REACH, 1.0))
    return Tracked(tracked.number, replace(tracked.instance, mask=mask, score=faded, box=None))
