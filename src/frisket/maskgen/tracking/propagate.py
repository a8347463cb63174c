"""Hand-painted frames of a video carried to the frames between and beyond them."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from frisket.maskgen.base import Seed, Tracker
from frisket.maskgen.files.drafts import TrackDirection
from frisket.maskgen.tracking.flow import (
    FlowCarrier,
    LabelArray,
    RgbArray,
    blend_labels,
    measure_overlap,
)
from frisket.maskgen.tracking.temporal import CUT, measure_change
from frisket.masks.morphology import INSIDE

ReadPicture = Callable[[int], RgbArray]
WINDOW = 48  # frames a model is given at once
MEET = 0.5  # IoU from which what comes from either side is blended; else the nearer one counts


@dataclass(frozen=True, slots=True)
class CarriedFrame:
    """Labels that a frame got, and how sure they are (0 to 1)."""

    frame: int
    labels: UInt8[np.ndarray, "H W"]
    confidence: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """Frames `first` to `last` that have no mask of their own, and the keyframes beside them."""

    first: int
    last: int
    before: int | None  # carried forward from here
    after: int | None  # carried backward from here

    @property
    def frames(self) -> int:
        """How many there are."""
        return self.last - self.first + 1


@runtime_checkable
class Carrier(Protocol):
    """A way to carry labels from one keyframe over the frames that follow it."""

    def carry(
        self, read: ReadPicture, key: int, labels: LabelArray, frames: Sequence[int]
    ) -> Iterator[CarriedFrame]:
        """One answer a frame, in their order; fewer where a scene ends.

        `frames` lead away from `key`, one by one, forward or backward.
        """
        ...


@dataclass(frozen=True, slots=True)
class FlowPropagator:
    """By optical flow; needs no weights. Ends at a cut, as `temporal.split_shots` finds it."""

    cut: float = CUT

    def carry(
        self, read: ReadPicture, key: int, labels: LabelArray, frames: Sequence[int]
    ) -> Iterator[CarriedFrame]:
        """See `Carrier.carry`; `FlowCarrier` says what the confidence is."""
        before = read(key)
        carrier = FlowCarrier(before, labels)
        for frame in frames:
            picture = read(frame)
            if measure_change(before, picture) >= self.cut:
                return
            yield CarriedFrame(frame, carrier.step(picture), carrier.confidence)
            before = picture


@dataclass(frozen=True, slots=True)
class ModelPropagator:
    """By a video tracker (SAM 2), window after window; each begins with the last's end."""

    tracker: Tracker
    window: int = WINDOW
    cut: float = CUT

    def carry(
        self, read: ReadPicture, key: int, labels: LabelArray, frames: Sequence[int]
    ) -> Iterator[CarriedFrame]:
        """See `Carrier.carry`. The confidence is the model's own, of the pixels it took."""
        regions = [int(index) for index in np.unique(labels) if index]
        before, seed = read(key), labels
        for start in range(0, len(frames), self.window - 1):
            pictures = [before]
            wanted_frames = frames[start : start + self.window - 1]
            for frame in wanted_frames:
                picture = read(frame)
                if measure_change(pictures[-1], picture) >= self.cut:
                    break
                pictures.append(picture)
            reached = wanted_frames[: len(pictures) - 1]
            for carried in self._track(pictures, seed, regions, reached):
                seed = carried.labels
                yield carried
            if len(reached) < len(wanted_frames):
                return
            before = pictures[-1]

    def _track(
        self,
        pictures: Sequence[RgbArray],
        labels: LabelArray,
        regions: Sequence[int],
        frames: Sequence[int],
    ) -> Iterator[CarriedFrame]:
        if not frames:
            return
        seeds = [
            Seed(index, 0, mask=torch.from_numpy((labels == index).astype(np.float32)))
            for index in regions
            if (labels == index).any()
        ]
        stack = torch.from_numpy(np.stack(pictures))
        planes = self.tracker.track(stack, seeds) if seeds else {}
        names = np.array([0, *planes], np.uint8)
        for at, frame in enumerate(frames, 1):
            blank = np.full(labels.shape, INSIDE, np.float32)
            probable = np.stack([blank, *(plane[at].numpy() for plane in planes.values())])
            choice = probable.argmax(0)
            region_values = [probable[place][choice == place] for place in range(1, len(names))]
            means = [float(values.mean()) for values in region_values if values.size]
            yield CarriedFrame(frame, names[choice], min(means, default=0.0))


def plan_stretches(
    keys: Sequence[int], first: int, last: int, direction: TrackDirection
) -> list[Stretch]:
    """The frames from `first` to `last` without the keyframes, with what is carried to them.

    A stretch that nothing is carried to in this direction is left out. ValueError for no keyframe
    and for an empty range.
    """
    if first > last or first < 0:
        raise ValueError(f"frames {first} to {last} are no range; give the lower number first")
    if not keys:
        raise ValueError("no frame has a mask of its own to carry on; paint one first")
    edges = sorted({*keys})
    stretches = []
    for before, after in zip([None, *edges], [*edges, None], strict=True):
        start = max(first, 0 if before is None else before + 1)
        end = min(last, last if after is None else after - 1)
        use_before = None if direction == "backward" else before
        use_after = None if direction == "forward" else after
        if start <= end and (use_before is not None or use_after is not None):
            stretches.append(Stretch(start, end, use_before, use_after))
    return stretches


def propagate(
    read: ReadPicture,
    keys: Mapping[int, LabelArray],
    stretches: Sequence[Stretch],
    carrier: Carrier,
) -> Iterator[CarriedFrame]:
    """The frames of stretches, each once: keyframes stay as they are.

    Between two keyframes both are carried to every frame, and blended by how near each is; where
    they do not meet (IoU below 0.5) the nearer one counts, and the confidence says how little they
    meet. Memory does not grow with the clip but for packed labels of the stretch at work. A frame
    beyond a cut, seen from its keyframe, gets no answer.
    """
    for stretch in stretches:
        if stretch.before is None or stretch.after is None:
            yield from _carry_onward(read, keys, stretch, carrier)
        else:
            yield from _carry_from_both(read, keys, stretch, carrier)


def _carry_onward(
    read: ReadPicture, keys: Mapping[int, LabelArray], stretch: Stretch, carrier: Carrier
) -> Iterator[CarriedFrame]:
    if stretch.before is not None:
        key, frames = stretch.before, range(stretch.before + 1, stretch.last + 1)
    else:
        assert stretch.after is not None
        key, frames = stretch.after, range(stretch.after - 1, stretch.first - 1, -1)
    for carried in carrier.carry(read, key, keys[key], frames):
        if stretch.first <= carried.frame <= stretch.last:
            yield carried


def _carry_from_both(
    read: ReadPicture, keys: Mapping[int, LabelArray], stretch: Stretch, carrier: Carrier
) -> Iterator[CarriedFrame]:
    before, after = stretch.before, stretch.after
    assert before is not None
    assert after is not None
    ahead: dict[int, tuple[bytes, float]] = {}
    for carried in carrier.carry(read, before, keys[before], range(before + 1, stretch.last + 1)):
        if carried.frame >= stretch.first:
            packed = zlib.compress(np.ascontiguousarray(carried.labels).tobytes(), 1)
            ahead[carried.frame] = packed, carried.confidence
    shape = keys[before].shape
    for carried in carrier.carry(read, after, keys[after], range(after - 1, stretch.first - 1, -1)):
        if carried.frame > stretch.last:
            continue
        earlier = ahead.pop(carried.frame, None)
        if earlier is None:
            yield carried
            continue
        share = (carried.frame - before) / (after - before)
        first = CarriedFrame(carried.frame, _unpack(earlier[0], shape), earlier[1])
        yield _join(first, carried, share)
    for frame, (packed, confidence) in sorted(ahead.items()):
        yield CarriedFrame(frame, _unpack(packed, shape), confidence)


def _unpack(packed: bytes, shape: tuple[int, ...]) -> LabelArray:
    return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(shape)


def _join(first: CarriedFrame, second: CarriedFrame, share: float) -> CarriedFrame:
    """What two keyframes say of one frame, `share` of the way from the first to the second."""
    regions = sorted({*np.unique(first.labels).tolist(), *np.unique(second.labels).tolist()} - {0})
    agreement = measure_overlap(first.labels, second.labels, regions)
    if agreement >= MEET:
        labels = blend_labels(first.labels, second.labels, share)
    else:
        labels = first.labels if share < 0.5 else second.labels
    own_confidence = (1 - share) * first.confidence + share * second.confidence
    # Two ways that end alike speak for each other; two that do not, against both.
    confidence = max(own_confidence, agreement) if agreement >= MEET else agreement
    return CarriedFrame(first.frame, labels, confidence)
