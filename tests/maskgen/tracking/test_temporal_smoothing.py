"""Planes made steady, region by region in step."""

import weakref

import numpy as np
import pytest
import torch

from frisket.maskgen.job import Motion
from frisket.maskgen.tracking.temporal_smoothing import smooth_planes

REGIONS = ("left", "right")


def clip(frames: int, lost: tuple[int, ...] = ()):
    """A still texture with a square in either half; `lost` frames miss the left one."""
    picture = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8))
    planes = []
    for at in range(frames):
        left, right = torch.zeros(32, 48), torch.zeros(32, 48)
        left[8:20, 6:16] = float(at not in lost)
        right[10:24, 30:42] = 1
        planes.append({"left": left, "right": right})
    return [picture] * frames, planes


def run(frames, planes, motion):
    return list(smooth_planes(iter(planes), iter(frames), REGIONS, motion))


def test_each_region_keeps_its_own_planes():
    frames, planes = clip(6)
    for smooth in ("none", "median", "motion"):
        settled = run(frames, planes, Motion(smooth=smooth, radius=1, gap=3))
        assert len(settled) == 6
        for (picture, found), frame, given in zip(settled, frames, planes, strict=True):
            assert torch.equal(picture, frame)
            for name in REGIONS:
                assert torch.equal(found[name] >= 0.5, given[name] >= 0.5)


def test_gaps_are_filled_where_a_region_is_lost_and_nowhere_else():
    frames, planes = clip(8, lost=(3, 4))
    settled = run(frames, planes, Motion(smooth="none", gap=3))
    assert all((found["left"] >= 0.5).any() for _, found in settled)
    assert all(
        torch.equal(found["right"], given["right"])
        for (_, found), given in zip(settled, planes, strict=True)
    )
    left = run(frames, planes, Motion(smooth="none", gap=0))
    assert [bool((found["left"] >= 0.5).any()) for _, found in left].count(False) == 2


def test_a_flicker_of_one_frame_goes():
    frames, planes = clip(7, lost=(3,))
    settled = run(frames, planes, Motion(smooth="median", radius=1, gap=0))
    assert (settled[3][1]["left"] >= 0.5).any()


@pytest.mark.parametrize("smooth", ["none", "median", "motion"])
@pytest.mark.parametrize("gap", [0, 5])
def test_it_holds_no_more_than_its_windows(smooth, gap):
    """However long the clip, few of its frames and planes are alive."""
    (picture, *_), (planes, *_) = clip(1)
    alive = weakref.WeakSet()

    def copies(make):
        for _ in range(60):
            one = make()
            alive.add(one)
            yield one
            del one

    def held(frame, found):
        return len(alive)

    class Table(dict):
        """A table of planes that can be counted."""

        __hash__ = object.__hash__

    frames = copies(picture.clone)
    motion = Motion(smooth=smooth, radius=2, gap=gap)
    tables = copies(lambda: Table(planes))
    most = max(held(*each) for each in smooth_planes(tables, frames, REGIONS, motion))
    assert most <= 2 * (gap + 2 * motion.radius + 4)
