"""Objects through a long clip under stable numbers, in memory that does not grow with it."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from frisket.maskgen.base import Instance, RgbPicture, Seed, Track, Tracker, VideoGrounder
from frisket.maskgen.tracking.matching import (
    PackedMask,
    assign,
    box_of,
    compute_overlaps,
    drop_duplicates,
    iou,
    match_unambiguous,
    pack,
    to_flags,
    unpack,
)
from frisket.maskgen.tracking.temporal import CUT, bridge, has_pixels, split_shots

# A detector and a segmenter on one picture: masks, not boxes alone, for they are what is matched.
Find = Callable[[RgbPicture], Sequence[Instance]]


@dataclass(frozen=True, slots=True)
class Tracking:
    """Frames are those of the clip that is handed in; ValueError names what is out of range."""

    every: int = 20  # frames between two detections; a shot's first and last frame have one too
    window: int = 48  # frames held behind; a tracker is never given more
    match: float = 0.5  # mask IoU from which two masks are of the same object, in (0, 1]
    gap: int = 20  # frames an object may be missing for and still be filled in; 0 fills none
    patience: int = 3  # detections in a row that may miss an object before it ends
    cut: float = CUT  # see `temporal.split_shots`

    def __post_init__(self) -> None:
        if self.window < 2 or self.every < 1 or self.patience < 1:
            raise ValueError(
                f"window {self.window}, every {self.every}, patience {self.patience}: use at least"
                " 2, 1 and 1"
            )
        if not 0 < self.match <= 1:
            raise ValueError(f"match is {self.match}; use an IoU above 0 and at most 1")
        if not 0 <= self.gap < self.window:
            raise ValueError(f"gap is {self.gap}; use 0 to {self.window - 1}, within the window")


@dataclass(frozen=True, slots=True)
class Tracked:
    """An instance and the number of the object it is of, the same in all frames, from 1."""

    number: int
    instance: Instance  # its score is that of the last detection; no box


def track(
    frames: Iterable[RgbPicture], find: Find, tracker: Tracker, how: Tracking | None = None
) -> Iterator[list[Tracked]]:
    """Detect on key frames, track between them; one list a frame, in order, empty where none is.

    Promised:
    - A scene cut starts afresh: nothing is carried over it, numbers go on counting.
    - On a key frame a find takes the number of the running track of its region that it overlaps by
      `match`, and its mask; what no find confirms runs on, up to `patience` finds in a row.
    - What is found for the first time is tracked backward too, to where the shot begins, at most
      `window` frames, and no farther than it falls onto another object of its region.
    - The same backward pass takes up an object that was lost, drifted away or was swapped with
      another (whose box its own met): it keeps its number if the pass meets it, by `match`, in the
      frame that last confirmed it. Where the backward pass does not get that far, a lost object
      must have kept its shape and lie no farther than its own size away.
    - Frames an object is missing in, at most `gap`, between two it is seen in, are filled, also
      where something hid it (`gap` 0 leaves all of them empty).
    - No more than 2 `window` frames are alive, whatever the length of the clip.
    """
    how = how or Tracking()
    numbers = itertools.count(1)
    for _, shot in itertools.groupby(split_shots(frames, how.cut), key=lambda it: it[0]):
        yield from _ShotTracker(find, tracker, how, numbers).run(picture for _, picture in shot)


def link(
    frames: Iterable[RgbPicture], find: Find, how: Tracking | None = None
) -> Iterator[list[Tracked]]:
    """The same without a tracker: every frame is detected, finds are linked by mask IoU.

    A find takes the number of the object of its region that it overlaps most, by `match` at least,
    where that was last seen no more than `gap` + 1 frames ago; else a new one. Numbers go on over
    no scene cut. Nothing is filled (`temporal.fill_gaps` does that, plane by plane) and nothing
    waits: one frame is alive, and one mask an object.
    """
    how = how or Tracking()
    numbers = itertools.count(1)
    last: dict[int, tuple[int, Instance]] = {}
    before = 0
    for at, (shot, picture) in enumerate(split_shots(frames, how.cut)):
        last = {n: it for n, it in last.items() if shot == before and at - it[0] <= how.gap + 1}
        before = shot
        instances = drop_duplicates(find(picture))
        objects = {number: (it.region, it.mask) for number, (_, it) in last.items()}
        matches = assign(compute_overlaps(instances, objects), how.match)
        numbering = {index: matches.get(index) or next(numbers) for index in range(len(instances))}
        last |= {number: (at, instances[index]) for index, number in numbering.items()}
        yield [Tracked(number, instances[index]) for index, number in numbering.items()]


def follow(
    frames: Iterable[RgbPicture],
    follower: VideoGrounder,
    phrases: Sequence[str],
    *,
    regions: Mapping[str, str] | None = None,
    how: Tracking | None = None,
) -> Iterator[list[Tracked]]:
    """The same with a follower, which detects and tracks in one, window after window of a shot.

    Windows share one frame; a track goes on under its number where its mask in that frame overlaps
    that of the window before by `match`, phrase by phrase. What is not in the shared frame gets a
    new number when it comes back. `regions` gives each phrase its region (default: the phrase).
    One window is alive.
    """
    how = how or Tracking()
    numbers = itertools.count(1)
    for _, shot in itertools.groupby(split_shots(frames, how.cut), key=lambda it: it[0]):
        shared: list[Tracked] = []
        for window, begins in _split_windows((picture for _, picture in shot), how.window):
            tracks = follower.follow(torch.stack(window), phrases)
            matches = _match_windows(tracks, shared, how.match)
            track_numbers = [matches.get(index) or next(numbers) for index in range(len(tracks))]
            for at in range(len(window)):
                shared = [
                    Tracked(number, _take_frame(track, at, regions or {}))
                    for number, track in zip(track_numbers, tracks, strict=True)
                    if has_pixels(track.plane[at])
                ]
                if at or begins:
                    yield shared


def _match_windows(
    tracks: Sequence[Track], shared: Sequence[Tracked], least: float
) -> dict[int, int]:
    """Tracks of a window, by place, to the numbers they had in the frame it shares."""
    first = [Instance(track.phrase, track.plane[0]) for track in tracks]
    objects = {
        tracked.number: (tracked.instance.phrase, tracked.instance.mask) for tracked in shared
    }
    return assign(compute_overlaps(first, objects), least)


def _take_frame(track: Track, at: int, regions: Mapping[str, str]) -> Instance:
    """A track in one frame of its window, under the region of its phrase."""
    region = regions.get(track.phrase, track.phrase)
    score = track.scores[at] if track.scores else None
    return Instance(region, track.plane[at], score, phrase=track.phrase)


@dataclass(slots=True)
class _Object:
    instance: Instance  # the last find of it
    confirmed: int  # the frame of that find
    missed: int = 0  # detections since that did not find it


@dataclass(slots=True)
class _ShotTracker:
    """The frames of one shot that are held, by their place in it, and the masks that are seen."""

    find: Find
    tracker: Tracker
    how: Tracking
    numbers: Iterator[int]
    pictures: dict[int, RgbPicture] = field(default_factory=dict)
    masks: dict[int, dict[int, PackedMask]] = field(default_factory=dict)  # frame, number
    objects: dict[int, _Object] = field(default_factory=dict)

    def run(self, pictures: Iterable[RgbPicture]) -> Iterator[list[Tracked]]:
        at = since = detected = 0
        for at, picture in enumerate(pictures):
            self.pictures[at], self.masks[at] = picture, {}
            key = at % self.how.every == 0
            if key or at - since == self.how.window - 1:
                self._track_onward(since, at)
                if key:
                    self._detect(at)
                    detected = at
                self._fill()
                since = at
                yield from self._release(at - self.how.window + 1)
        if detected < at:
            self._track_onward(since, at)
            self._detect(at)
            self._fill()
        yield from self._release(at + 1)

    def _track_onward(self, since: int, at: int) -> None:
        """Track what is seen in frame `since` through the frames up to `at`."""
        seeds = [Seed(number, 0, mask=unpack(it)) for number, it in self.masks[since].items()]
        if at > since and seeds:
            for number, path in self._track_paths(range(since, at + 1), seeds).items():
                for frame in range(since + 1, at + 1):
                    if frame in path:
                        self.masks[frame][number] = path[frame]

    def _detect(self, at: int) -> None:
        """Match what is found in frame `at` with what runs; take up or begin the rest."""
        instances = drop_duplicates(self.find(self.pictures[at]))
        running = {n: (self.objects[n].instance.region, it) for n, it in self.masks[at].items()}
        near = compute_overlaps(instances, running)
        close_numbers = self._find_close(at)
        matched = {
            k: n
            for k, n in match_unambiguous(near, self.how.match).items()
            if n not in close_numbers
        }
        unclear = [index for index in range(len(instances)) if index not in matched]
        paths = self._track_backward(at, {index: instances[index] for index in unclear})
        recognised = self._recognise(at, instances, paths, near, set(matched.values()))
        for index, number in recognised.items():
            self._rejoin(at, number, paths[index])
        for index, number in (matched | recognised).items():
            self.objects[number] = _Object(instances[index], at)
            self.masks[at][number] = pack(instances[index].mask)
        self._drop_lost(at, set(matched.values()) | set(recognised.values()))
        for index in unclear:
            if index not in recognised:
                self._begin(at, instances[index], paths[index])

    def _find_close(self, at: int) -> set[int]:
        """Objects that came close to another of their region since their last finds."""
        close_numbers: set[int] = set()
        for first, second in itertools.combinations(self.masks[at], 2):
            first_object, second_object = self.objects[first], self.objects[second]
            if first_object.instance.region == second_object.instance.region:
                since = range(max(first_object.confirmed, second_object.confirmed) + 1, at + 1)
                pairs = (
                    (masks[first], masks[second])
                    for masks in (self.masks.get(frame, {}) for frame in since)
                    if first in masks and second in masks
                )
                if any(box_of(a).overlap(box_of(b)) > 0 for a, b in pairs):
                    close_numbers |= {first, second}
        return close_numbers

    def _track_backward(
        self, at: int, finds: Mapping[int, Instance]
    ) -> dict[int, dict[int, PackedMask]]:
        """Finds of frame `at` tracked back through what is held: find, frame to mask."""
        frames = range(max(min(self.pictures), at - self.how.window + 1), at + 1)
        seeds = [Seed(k + 1, len(frames) - 1, mask=find.mask) for k, find in finds.items()]
        paths: dict[int, dict[int, PackedMask]] = {}
        if seeds and len(frames) > 1:
            paths = self._track_paths(frames, seeds, reverse=True)
        return {k: paths.get(k + 1, {}) | {at: pack(find.mask)} for k, find in finds.items()}

    def _track_paths(
        self, frames: range, seeds: Sequence[Seed], *, reverse: bool = False
    ) -> dict[int, dict[int, PackedMask]]:
        clip = torch.stack([self.pictures[frame] for frame in frames])
        planes = self.tracker.track(clip, seeds, reverse=reverse)
        return {
            number: {f: pack(it) for f, it in zip(frames, plane, strict=True) if has_pixels(it)}
            for number, plane in planes.items()
        }

    def _recognise(
        self,
        at: int,
        instances: Sequence[Instance],
        paths: Mapping[int, Mapping[int, PackedMask]],
        near: Mapping[tuple[int, int], float],
        matched: set[int],
    ) -> dict[int, int]:
        """Finds that are objects known before, by the surest of three signs."""
        reached: dict[tuple[int, int], float] = {}
        overlaps_here: dict[tuple[int, int], float] = {}
        resembled: dict[tuple[int, int], float] = {}
        for index, number in itertools.product(paths, set(self.objects) - matched):
            candidate, path = self.objects[number], paths[index]
            if candidate.instance.region != instances[index].region:
                continue
            then = self.masks.get(candidate.confirmed, {}).get(number)
            if then is not None and candidate.confirmed in path:
                # The pass got there: what it says is final, whatever the masks look like now.
                reached[index, number] = iou(then, path[candidate.confirmed])
            elif number in self.masks[at]:
                overlaps_here[index, number] = near[index, number]
            else:
                resembled[index, number] = self._rate_resemblance(number, path)
        pairs: dict[int, int] = {}
        for scores in (reached, overlaps_here, resembled):
            known_before = set(pairs.values())
            free = {
                (index, number): score
                for (index, number), score in scores.items()
                if index not in pairs and number not in known_before
            }
            pairs |= assign(free, self.how.match)
        return pairs

    def _rate_resemblance(self, number: int, path: Mapping[int, PackedMask]) -> float:
        """IoU of a lost object with the first that is seen after it, laid on one another."""
        frames = [frame for frame, masks in self.masks.items() if number in masks]
        later = [frame for frame in path if frames and frame > frames[-1]]
        if not later:
            return 0.0
        lost_flags, back = to_flags(self.masks[frames[-1]][number]), to_flags(path[min(later)])
        shift = back.nonzero().float().mean(0) - lost_flags.nonzero().float().mean(0)
        if float(shift.norm()) > float(lost_flags.sum()) ** 0.5:
            return 0.0
        down, right = shift.round().int().tolist()
        return iou(lost_flags.roll((down, right), (0, 1)), back)

    def _rejoin(self, at: int, number: int, path: Mapping[int, PackedMask]) -> None:
        """Where an object was lost or elsewhere since its last find, take the backward pass."""
        for frame in range(self.objects[number].confirmed + 1, at):
            if frame in path:
                own_mask = self.masks[frame].get(number)
                if own_mask is None or iou(own_mask, path[frame]) < self.how.match:
                    self.masks[frame][number] = path[frame]

    def _drop_lost(self, at: int, confirmed: set[int]) -> None:
        """End what too many detections missed, and what has fallen onto another object."""
        for number in set(self.masks[at]) - confirmed:
            self.objects[number].missed += 1
            onto = [other for other in confirmed if self._is_same(at, number, other)]
            if onto or self.objects[number].missed >= self.how.patience:
                del self.masks[at][number]
            since = [frame for frame in self.masks if self.objects[number].confirmed < frame < at]
            for frame, other in itertools.product(since, onto):
                if self._is_same(frame, number, other):
                    del self.masks[frame][number]

    def _is_same(self, frame: int, first: int, second: int) -> bool:
        """Whether two objects of one region are the same pixels in a frame."""
        masks = self.masks[frame]
        if self.objects[first].instance.region != self.objects[second].instance.region:
            return False
        both_there = first in masks and second in masks
        return both_there and iou(masks[first], masks[second]) >= self.how.match

    def _begin(self, at: int, instance: Instance, path: Mapping[int, PackedMask]) -> None:
        """A new object, and its backward pass as far as that meets no other of its region."""

        def is_free(frame: int) -> bool:
            return not any(
                self.objects[other].instance.region == instance.region
                and iou(path[frame], it) >= self.how.match
                for other, it in self.masks[frame].items()
            )

        frames = list(itertools.takewhile(is_free, sorted(path, reverse=True)))
        if frames:  # else a second find of what another find has already named
            number = next(self.numbers)
            self.objects[number] = _Object(instance, at)
            for frame in frames:
                self.masks[frame][number] = path[frame]

    def _fill(self) -> None:
        """Bridge the gaps of every object within what is held."""
        for number in self.objects:
            frames = [frame for frame, masks in self.masks.items() if number in masks]
            for first, last in itertools.pairwise(frames):
                if 1 < last - first <= self.how.gap + 1:
                    pictures = [self.pictures[frame] for frame in range(first, last + 1)]
                    ends = (unpack(self.masks[frame][number]) for frame in (first, last))
                    for frame, mask in enumerate(bridge(pictures, *ends), first + 1):
                        if has_pixels(mask):
                            self.masks[frame][number] = pack(mask)

    def _release(self, before: int) -> Iterator[list[Tracked]]:
        """Give out and forget the frames before one, and the objects none is left of."""
        for frame in [frame for frame in self.pictures if frame < before]:
            del self.pictures[frame]
            yield [
                Tracked(
                    number, replace(self.objects[number].instance, mask=unpack(packed), box=None)
                )
                for number, packed in sorted(self.masks.pop(frame).items())
            ]
        alive = {number for masks in self.masks.values() for number in masks}
        self.objects = {number: it for number, it in self.objects.items() if number in alive}


def _split_windows(
    pictures: Iterable[RgbPicture], size: int
) -> Iterator[tuple[list[RgbPicture], bool]]:
    """Windows that share one frame, and whether it is the first."""
    window: list[RgbPicture] = []
    begins = True
    for picture in pictures:
        window.append(picture)
        if len(window) == size:
            yield window, begins
            window, begins = window[-1:], False
    if begins or len(window) > 1:
        yield window, begins
