"""Painted frames are carried onward: against the exact masks of pocket clips."""

import numpy as np
import pytest
from tests.studio.video.pocket_clips import draw_clip

from frisket.maskgen.tracking.flow import FlowCarrier, blend_labels, measure_overlap
from frisket.maskgen.tracking.propagate import (
    FlowPropagator,
    ModelPropagator,
    Stretch,
    plan_stretches,
    propagate,
)
from frisket.pocket.world import Background

REGIONS = (1, 2, 3)
STRIPES = Background("stripes", "red", "blue")


def carry(pictures, keys, first, last, direction="forward", carrier=None):
    plan = plan_stretches(sorted(keys), first, last, direction)
    frames = propagate(pictures.__getitem__, keys, plan, carrier or FlowPropagator())
    return {carried.frame: carried for carried in frames}


@pytest.mark.parametrize(("motion", "ground"), [("rightward", None), ("falling", STRIPES)])
def test_a_painted_frame_is_carried_to_the_end(motion, ground):
    pictures, labels = draw_clip(16, 96, motion, *([ground] if ground else []))
    carried = carry(pictures, {0: labels[0]}, 1, 15)
    assert sorted(carried) == list(range(1, 16))
    scores = [measure_overlap(carried[at].labels, labels[at], REGIONS) for at in carried]
    assert np.mean(scores) > 0.93
    assert min(scores) > 0.88
    assert all(0 <= it.confidence <= 1 for it in carried.values())


def test_two_keyframes_are_better_than_one():
    pictures, labels = draw_clip(25, 64)
    wrong = np.roll(labels[0], 3, 1)  # a careless first frame, mended at the last
    one = carry(pictures, {0: wrong}, 1, 23)
    both = carry(pictures, {0: wrong, 24: labels[24]}, 1, 23, "both")
    assert sorted(both) == list(range(1, 24))

    def score(carried, at):
        return measure_overlap(carried[at].labels, labels[at], REGIONS)

    assert score(both, 22) >= score(one, 22)
    assert np.mean([score(both, at) for at in both]) >= np.mean([score(one, at) for at in one])


def test_keyframes_are_no_frames_to_carry_to():
    plan = plan_stretches([4, 9], 0, 12, "both")
    assert plan == [Stretch(0, 3, None, 4), Stretch(5, 8, 4, 9), Stretch(10, 12, 9, None)]
    assert plan_stretches([4], 0, 12, "forward") == [Stretch(5, 12, 4, None)]
    assert plan_stretches([4], 0, 12, "backward") == [Stretch(0, 3, None, 4)]
    assert plan_stretches([4, 9], 6, 7, "forward") == [Stretch(6, 7, 4, None)]
    with pytest.raises(ValueError, match="paint one"):
        plan_stretches([], 0, 3, "both")
    with pytest.raises(ValueError, match="lower number"):
        plan_stretches([1], 3, 2, "both")


def test_nothing_is_carried_over_a_cut():
    first, labels = draw_clip(6, 64)
    second, _ = draw_clip(6, 64, "falling", STRIPES)
    pictures = np.concatenate([first, second])
    assert sorted(carry(pictures, {0: labels[0]}, 1, 11)) == [1, 2, 3, 4, 5]
    both = carry(pictures, {0: labels[0], 11: labels[0]}, 1, 10, "both")
    assert sorted(both) == list(range(1, 11))


def test_confidence_falls_where_the_subject_is_lost():
    pictures, labels = draw_clip(8, 96)
    hidden = pictures.copy()
    hidden[5:] = pictures[:1, :8, :8].mean((1, 2), keepdims=True).astype(np.uint8)
    sure = carry(pictures, {0: labels[0]}, 1, 7)[7].confidence
    lost = carry(hidden, {0: labels[0]}, 1, 7, carrier=FlowPropagator(cut=2.0))[7].confidence
    assert lost < 0.5 < sure


def test_an_empty_keyframe_makes_empty_frames():
    pictures, labels = draw_clip(4, 32)
    carried = carry(pictures, {0: np.zeros_like(labels[0])}, 1, 3)
    assert not any(it.labels.any() for it in carried.values())
    assert FlowCarrier(pictures[0], np.zeros_like(labels[0])).regions == ()


def test_a_blend_of_two_masks_lies_between_them():
    first, second = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    first[10:30, 10:30] = 1
    second[10:30, 20:40] = 1
    for share, edge in ((0.0, 10), (0.5, 15), (1.0, 20)):
        blended = blend_labels(first, second, share)
        assert abs(np.flatnonzero(blended[20]).min() - edge) <= 1
    assert np.array_equal(blend_labels(first, second, 0.0), first)
    assert np.array_equal(blend_labels(first, second, 1.0), second)


class _Still:
    """A tracker that says the seed's own mask of every frame."""

    def __init__(self):
        self.windows = []

    def track(self, frames, seeds, *, reverse=False):
        self.windows.append(len(frames))
        return {seed.number: seed.mask.expand(len(frames), -1, -1) * 0.9 for seed in seeds}


def test_a_model_is_given_windows_that_join():
    pictures, labels = draw_clip(20, 32, "still")
    tracker = _Still()
    carried = carry(pictures, {19: labels[0]}, 0, 18, "backward", ModelPropagator(tracker, 8))
    assert sorted(carried) == list(range(19))
    assert tracker.windows == [8, 8, 6]
    for it in carried.values():
        assert np.array_equal(it.labels, labels[0])
        assert it.confidence == pytest.approx(0.9)
