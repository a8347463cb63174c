"""Tracks through scripted failures: what is found, lost, drifted and swapped keeps its number."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from frisket.maskgen.base import Instance, Seed, Track
from frisket.maskgen.tracking.matching import iou
from frisket.maskgen.tracking.tracker import Tracked, Tracking, follow, link, track
from frisket.pocket import world
from frisket.shapes import Frames

SIZE = 96
Place = Callable[[int], tuple[float, float] | None]  # of a shape in each frame; None: not there
CHECKS = world.Background("checks", "blue", "white")
DOTS = world.Background("dots", "black", "green")
SHAPES = {"square": "yellow", "circle": "red"}


@dataclass
class Clip:
    """Frames with exact masks, and the failures that a detector and a tracker are to have."""

    pictures: list[Tensor]
    truth: list[dict[str, Tensor]]
    unseen: dict[str, set[int]] = field(default_factory=dict)  # by the detector
    lost: dict[str, set[int]] = field(default_factory=dict)  # by the tracker; it stays lost
    drifts: dict[str, int] = field(default_factory=dict)  # away from its object from this frame on
    swaps: int | None = None  # frame from which a forward pass follows the other shape
    asked: list[int] = field(default_factory=list)
    longest: int = 0

    def __post_init__(self) -> None:
        self.index = {picture.numpy().tobytes(): at for at, picture in enumerate(self.pictures)}
        assert len(self.index) == len(self.pictures)

    def find(self, picture: Tensor) -> list[Instance]:
        at = self.index[picture.numpy().tobytes()]
        self.asked.append(at)
        return [
            Instance("body", mask, 0.9, phrase=name)
            for name, mask in self.truth[at].items()
            if at not in self.unseen.get(name, ()) and bool((mask >= 0.5).any())
        ]

    def track(
        self, frames: Frames, seeds: Sequence[Seed], *, reverse: bool = False
    ) -> dict[int, Tensor]:
        self.longest = max(self.longest, len(frames))
        places = [self.index[frame.numpy().tobytes()] for frame in frames]
        return {seed.number: self._path(places, seed, reverse=reverse) for seed in seeds}

    def _path(self, places: list[int], seed: Seed, *, reverse: bool) -> Tensor:
        assert seed.mask is not None
        plane = torch.zeros(len(places), SIZE, SIZE)
        here = self.truth[places[seed.frame]]
        name = max(here, key=lambda it: iou(here[it], seed.mask))
        if iou(here[name], seed.mask) < 0.3:
            return plane  # started on nothing
        order = range(seed.frame, -1, -1) if reverse else range(seed.frame, len(places))
        other = next((it for it in SHAPES if it != name), name)
        for k in order:
            at = places[k]
            if at in self.lost.get(name, ()) and k != seed.frame:
                break
            swapped = self.swaps is not None and not reverse and at >= self.swaps > places[0]
            mask = self.truth[at].get(other if swapped else name)
            if mask is None:
                continue
            begins = self.drifts.get(name, at)
            away = at - begins if at > begins > places[0] and not reverse else 0
            plane[k] = mask.roll(3 * away, 0)
        return plane


def clip_of(
    frames: int, places: dict[str, Place], *, cuts: Sequence[int] = (), **failures: object
) -> Clip:
    """Shapes on a background that changes at each cut; the first named shape is in front."""
    pictures, truth = [], []
    for at in range(frames):
        ground = CHECKS if sum(at >= cut for cut in cuts) % 2 == 0 else DOTS
        picture = torch.from_numpy(world.draw_background(ground, SIZE)).float()
        masks: dict[str, Tensor] = {}
        for name, place in reversed(places.items()):
            where = place(at)
            if where is None:
                continue
            alpha = torch.from_numpy(world.shape_alpha(name, *where, 6.0, SIZE))
            paint = torch.tensor(world.COLOURS[SHAPES[name]])
            picture = picture + (paint - picture) * alpha[..., None]
            masks = {other: mask * (1 - alpha) for other, mask in masks.items()} | {name: alpha}
        pictures.append(picture.round().to(torch.uint8))
        truth.append(dict(reversed(masks.items())))
    return Clip(pictures, truth, **failures)  # type: ignore[arg-type]


def square(at: int) -> tuple[float, float]:
    return 9 + 0.2 * at, 8.0


def circle(at: int) -> tuple[float, float]:
    return 23 - 0.2 * at, 24.0


BOTH: dict[str, Place] = {"square": square, "circle": circle}


def numbers_of(clip: Clip, out: Sequence[list[Tracked]]) -> dict[str, set[int]]:
    """Which numbers lie on each shape, over the whole clip."""
    numbers: dict[str, set[int]] = {name: set() for name in SHAPES}
    for truth, tracked in zip(clip.truth, out, strict=True):
        for it in tracked:
            assert truth, "something is tracked where nothing is"
            numbers[max(truth, key=lambda name: iou(truth[name], it.instance.mask))].add(it.number)
    return numbers


def recovered(clip: Clip, out: Sequence[list[Tracked]], name: str, number: int) -> float:
    """Mean IoU of one object's masks with the truth; a frame where neither is counts 1."""
    scores = []
    for truth, tracked in zip(clip.truth, out, strict=True):
        blank = torch.zeros(SIZE, SIZE)
        exact = truth.get(name, blank)
        mask = next((it.instance.mask for it in tracked if it.number == number), blank)
        both_empty = not (exact >= 0.5).any() and not (mask >= 0.5).any()
        scores.append(1.0 if both_empty else iou(exact, mask))
    return sum(scores) / len(scores)


def check(clip: Clip, how: Tracking | None = None, least: float = 0.9) -> list[list[Tracked]]:
    """Every shape under one number of its own, its track recovered."""
    out = list(track(clip.pictures, clip.find, clip, how))
    numbers = numbers_of(clip, out)
    assert all(len(it) == 1 for it in numbers.values()), numbers
    assert len(set.union(*numbers.values())) == len(SHAPES)
    for name, (number,) in numbers.items():
        score = recovered(clip, out, name, number)
        print(f"{name} {number}: {score:.3f}")
        assert score >= least, (name, score)
    return out


def test_two_objects_keep_their_numbers_and_are_looked_for_every_so_often() -> None:
    clip = clip_of(50, BOTH)
    out = check(clip, least=0.99)
    assert clip.asked == [0, 20, 40, 49]
    assert {it.instance.phrase for it in out[30]} == set(SHAPES)
    assert all(it.instance.score == 0.9 for tracked in out for it in tracked)


def test_a_detector_that_misses_leaves_it_to_the_tracker() -> None:
    check(clip_of(70, BOTH, unseen={"circle": {20, 40}}), least=0.99)


def test_what_too_many_detections_miss_ends() -> None:
    clip = clip_of(61, BOTH, unseen={"circle": set(range(1, 61))})
    out = list(track(clip.pictures, clip.find, clip, Tracking(patience=2)))
    assert [len(it) for it in out] == [2] * 40 + [1] * 21


@pytest.mark.parametrize("gone", [range(8, 18), range(12, 15), range(19, 24)])
def test_what_a_tracker_loses_is_taken_up_and_filled(gone: range) -> None:
    """Lost forward and backward: only the bridge between both ends is left to close the gap."""
    check(clip_of(60, BOTH, lost={"circle": set(gone)}))


def test_drift_is_undone_by_the_backward_pass() -> None:
    clip = clip_of(60, BOTH, drifts={"square": 26})
    out = check(clip)
    bent = clip.track(
        torch.stack(clip.pictures[20:41]), [Seed(1, 0, mask=clip.truth[20]["square"])]
    )
    assert iou(bent[1][-1], clip.truth[40]["square"]) < 0.1
    assert len(out) == 60


def test_one_that_enters_late_is_covered_from_its_entry() -> None:
    places = BOTH | {"circle": lambda at: circle(at) if at >= 27 else None}
    clip = clip_of(60, places)
    out = check(clip, least=0.99)
    assert [len(it) for it in out] == [1] * 27 + [2] * 33


def test_one_that_enters_after_the_last_key_frame_is_found_in_the_last_frame() -> None:
    check(clip_of(38, BOTH | {"circle": lambda at: circle(at) if at >= 25 else None}), least=0.99)


def test_the_backward_pass_reaches_one_window_and_no_further() -> None:
    clip = clip_of(80, BOTH, unseen={"circle": set(range(60))})
    out = list(track(clip.pictures, clip.find, clip, Tracking(window=24)))
    assert [len(it) for it in out] == [1] * 37 + [2] * 43
    assert clip.longest == 24


@pytest.mark.parametrize("swaps", [None, 27])
def test_two_that_cross_are_told_apart(swaps: int | None) -> None:
    """Also where the tracker swaps them: a backward pass from the next finds shows who is who."""
    places: dict[str, Place] = {
        "square": lambda at: (6 + 0.4 * at, 15.0),
        "circle": lambda at: (27 - 0.4 * at, 17.0),
    }
    check(clip_of(52, places, swaps=swaps))


def test_a_cut_starts_afresh() -> None:
    clip = clip_of(50, BOTH, cuts=[30])
    out = list(track(clip.pictures, clip.find, clip))
    assert clip.asked == [0, 20, 29, 30, 49]
    assert {it.number for tracked in out[:30] for it in tracked} == {1, 2}
    assert {it.number for tracked in out[30:] for it in tracked} == {3, 4}


def test_nothing_found_is_an_answer() -> None:
    clip = clip_of(45, BOTH, unseen={name: set(range(45)) for name in SHAPES})
    assert list(track(clip.pictures, clip.find, clip)) == [[]] * 45
    assert list(track([], clip.find, clip)) == []
    one = clip_of(1, BOTH)
    assert [len(it) for it in track(one.pictures, one.find, one)] == [2]


def test_regions_do_not_mix() -> None:
    """A face within a body of nearly its size is another thing, though their masks agree."""
    clip = clip_of(41, {"square": square})

    def find(picture: Tensor) -> list[Instance]:
        (body,) = clip.find(picture)
        return [body, Instance("face", body.mask)]

    out = list(track(clip.pictures, find, clip))
    regions = [[(it.number, it.instance.region) for it in tracked] for tracked in out]
    assert regions == [[(1, "body"), (2, "face")]] * 41


@pytest.mark.parametrize(("every", "window"), [(20, 48), (7, 16), (500, 32)])
def test_memory_is_flat_in_the_length_of_the_clip(every: int, window: int) -> None:
    """Counted as frames handed in less lists handed out: what must be alive in between."""
    clip = clip_of(150, {"square": lambda at: (8 + 0.1 * at, 16.0)})
    taken = 0

    def counted() -> Iterator[Tensor]:
        nonlocal taken
        for picture in clip.pictures:
            taken += 1
            yield picture

    how = Tracking(every=every, window=window, gap=5)
    alive = [taken - given for given, _ in enumerate(track(counted(), clip.find, clip, how))]
    assert len(alive) == 150
    assert max(alive) <= 2 * window
    assert clip.longest <= window


def test_link_numbers_what_only_pictures_know() -> None:
    clip = clip_of(40, BOTH, cuts=[30], unseen={"circle": {5, 6}})
    out = list(link(clip.pictures, clip.find))
    seen = [{it.instance.phrase: it.number for it in tracked} for tracked in out]
    both = {"square": 1, "circle": 2}
    assert seen[:5] + seen[7:30] == [both] * 28
    assert seen[5:7] == [{"square": 1}] * 2
    assert seen[30:] == [{"square": 3, "circle": 4}] * 10


def test_link_forgets_what_is_long_gone() -> None:
    clip = clip_of(12, BOTH, unseen={"circle": set(range(3, 9))})
    out = list(link(clip.pictures, clip.find, Tracking(gap=5)))
    assert {it.number for it in out[11]} == {1, 3}


@dataclass
class Following:
    """A follower that numbers its tracks anew, and in another order, in every window."""

    clip: Clip
    lengths: list[int] = field(default_factory=list)

    def follow(self, frames: Frames, phrases: Sequence[str]) -> list[Track]:
        self.lengths.append(len(frames))
        at = [self.clip.index[frame.numpy().tobytes()] for frame in frames]
        order = sorted(SHAPES, reverse=len(self.lengths) % 2 == 0)
        blank = torch.zeros(SIZE, SIZE)
        planes = {n: torch.stack([self.clip.truth[k].get(n, blank) for k in at]) for n in order}
        scores = tuple(0.5 for _ in frames)
        return [Track(i, planes[name], scores, "shape") for i, name in enumerate(order, 1)]


def test_follow_carries_numbers_from_window_to_window() -> None:
    clip = clip_of(50, BOTH)
    follower = Following(clip)
    how = Tracking(window=16, gap=4)
    out = list(follow(clip.pictures, follower, ["shape"], regions={"shape": "body"}, how=how))
    assert follower.lengths == [16, 16, 16, 5]
    numbers = numbers_of(clip, out)
    assert all(len(it) == 1 for it in numbers.values())
    for name, (number,) in numbers.items():
        assert recovered(clip, out, name, number) == 1.0
    assert {(it.instance.region, it.instance.score) for it in out[20]} == {("body", 0.5)}


def test_follow_starts_afresh_at_a_cut() -> None:
    clip = clip_of(31, BOTH, cuts=[15])
    out = list(follow(clip.pictures, Following(clip), ["shape"], how=Tracking(window=15, gap=4)))
    assert [sorted(it.number for it in tracked) for tracked in out] == [[1, 2]] * 15 + [[3, 4]] * 16


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"window": 1}, "window 1"),
        ({"every": 0}, "every 0"),
        ({"match": 0.0}, "match is 0.0"),
        ({"gap": 48}, "use 0 to 47"),
    ],
)
def test_what_is_out_of_range_is_named(wrong: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Tracking(**wrong)  # type: ignore[arg-type]
