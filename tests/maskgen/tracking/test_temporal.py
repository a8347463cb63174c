"""Flicker, gaps and cuts on clips whose motion nobody tells."""

from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from frisket.maskgen.tracking.matching import iou
from frisket.maskgen.tracking.temporal import (
    bridge,
    fill_gaps,
    signed_distance,
    smooth_by_median,
    smooth_by_motion,
    split_shots,
)
from frisket.pocket import world

SIZE, FRAMES, DROPPED = 160, 20, 10


def smooth(rng: np.random.Generator, height: int, width: int, sigma: float) -> np.ndarray:
    """Noise with a grain of `sigma` pixels and a deviation of 1."""
    noise = cv2.GaussianBlur(rng.standard_normal((height, width)), (0, 0), sigma)
    return noise / noise.std()


def texture(rng: np.random.Generator, width: int, colour: tuple[int, int, int]) -> np.ndarray:
    grains = [smooth(rng, SIZE, width, 1.5) for _ in range(3)]
    return np.clip(np.stack(grains, -1) * 30 + colour, 0, 255)


def disc(at: int) -> Tensor:
    """Exact mask of a disc that crosses the picture, three pixels a frame."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return ((x - 45 - 3 * at) ** 2 + (y - 80) ** 2 < 32**2).float()


@pytest.fixture(scope="module")
def clip() -> tuple[list[Tensor], list[Tensor]]:
    """A textured disc before a texture that pans the other way, and its exact masks."""
    rng = np.random.default_rng(0)
    ground, paint = texture(rng, SIZE + 60, (90, 120, 90)), texture(rng, SIZE, (170, 110, 90))
    exact = [disc(at) for at in range(FRAMES)]
    pictures = [
        torch.from_numpy(
            np.where(
                mask[..., None] > 0, np.roll(paint, 3 * at, 1), ground[:, 2 * at : 2 * at + SIZE]
            ).astype(np.uint8)
        )
        for at, mask in enumerate(exact)
    ]
    return pictures, exact


@pytest.fixture(scope="module")
def flickering(clip: tuple[list[Tensor], list[Tensor]]) -> list[Tensor]:
    """The masks with a border that wanders by 3 pixels from frame to frame, and one frame empty."""
    rng = np.random.default_rng(1)
    raw = [
        torch.from_numpy(signed_distance(mask) + 3 * smooth(rng, SIZE, SIZE, 4) > 0).float()
        for mask in clip[1]
    ]
    raw[DROPPED] = torch.zeros(SIZE, SIZE)
    return raw


def scores(exact: list[Tensor], planes: list[Tensor]) -> list[float]:
    return [iou(one, other) for one, other in zip(exact, planes, strict=True)]


def test_smoothing_beats_raw_masks(
    clip: tuple[list[Tensor], list[Tensor]], flickering: list[Tensor]
) -> None:
    pictures, exact = clip
    results = {
        "raw": scores(exact, flickering),
        "median": scores(exact, list(smooth_by_median(flickering, 1))),
        "compensated": scores(exact, list(smooth_by_motion(pictures, flickering, 2))),
        "filled": scores(exact, list(fill_gaps(pictures, flickering, 2))),
    }
    mean = {name: sum(it) / len(it) for name, it in results.items()}
    print({name: (round(mean[name], 3), round(min(it), 3)) for name, it in results.items()})
    assert mean["raw"] < 0.86
    assert mean["median"] > mean["raw"] + 0.03
    assert mean["compensated"] > mean["median"] + 0.02
    assert mean["compensated"] > 0.92
    assert min(results["compensated"]) > 0.85
    assert results["filled"][DROPPED] > 0.85


def test_filling_touches_nothing_but_gaps(
    clip: tuple[list[Tensor], list[Tensor]], flickering: list[Tensor]
) -> None:
    out = list(fill_gaps(clip[0], flickering, 2))
    assert all(torch.equal(out[k], flickering[k]) for k in range(FRAMES) if k != DROPPED)


@pytest.mark.parametrize("length", [1, 3, 6])
def test_a_gap_is_filled_up_to_its_length_and_no_further(
    clip: tuple[list[Tensor], list[Tensor]], length: int
) -> None:
    pictures, exact = clip
    missing = range(6, 6 + length)
    planes = [mask * (k not in missing) for k, mask in enumerate(exact)]
    assert min(scores(exact, list(fill_gaps(pictures, planes, length)))) > 0.9
    kept = list(fill_gaps(pictures, planes, length - 1))
    assert all(torch.equal(a, b) for a, b in zip(kept, planes, strict=True))


def test_what_enters_or_leaves_is_no_gap(clip: tuple[list[Tensor], list[Tensor]]) -> None:
    pictures, exact = clip
    planes = [mask * (4 <= k < 9) for k, mask in enumerate(exact)]
    for out in (list(fill_gaps(pictures, planes, 10)), list(smooth_by_motion(pictures, planes, 2))):
        assert [bool(it.any()) for it in out] == [4 <= k < 9 for k in range(FRAMES)]


def test_nothing_is_carried_over_a_cut(clip: tuple[list[Tensor], list[Tensor]]) -> None:
    """Another scene takes the middle of the clip: it keeps its empty masks, or its own."""
    pictures, exact = clip
    other = torch.from_numpy(world.draw_background(world.ZIGZAG, SIZE))
    frames = [other if 8 <= k < 12 else it for k, it in enumerate(pictures)]
    assert [shot for shot, _ in split_shots(frames)] == [0] * 8 + [1] * 4 + [2] * 8
    planes = [mask * (not 8 <= k < 12) for k, mask in enumerate(exact)]
    assert not any(it.any() for it in list(fill_gaps(frames, planes, 10))[8:12])
    assert not any(it.any() for it in list(smooth_by_motion(frames, planes, 3))[8:12])
    corner = torch.zeros(SIZE, SIZE)
    corner[:40, :40] = 1
    planes = [corner if 8 <= k < 12 else it for k, it in enumerate(exact)]
    assert all(torch.equal(it, corner) for it in list(smooth_by_motion(frames, planes, 3))[8:12])


def test_a_bridge_without_texture_goes_straight() -> None:
    """A flat square jumps by twice its side: optical flow has nothing to hold on to."""
    wall = torch.full((64, 96, 3), 128, dtype=torch.uint8)
    first, last, middle = (torch.zeros(64, 96) for _ in range(3))
    first[20:36, 10:26], last[20:36, 58:74], middle[20:36, 34:50] = 1, 1, 1
    between = bridge([wall] * 4 + [wall], first, last)
    assert len(between) == 3
    assert iou(between[1], middle) > 0.95
    with pytest.raises(ValueError, match="not empty"):
        bridge([wall] * 3, first, torch.zeros(64, 96))


def test_still_masks_come_back_as_they_were(clip: tuple[list[Tensor], list[Tensor]]) -> None:
    """Hard masks of a still picture: exact, and a mask of everything stays everything."""
    pictures, exact = [clip[0][0]] * 5, clip[1][:1] * 5
    full = [torch.ones(SIZE, SIZE)] * 5
    for planes in (exact, full):
        assert all(torch.equal(it, planes[0]) for it in smooth_by_motion(pictures, planes, 2))
        assert all(torch.equal(it, planes[0]) for it in smooth_by_median(planes, 2))


@given(
    values=st.lists(st.floats(0, 1, width=32), max_size=12),
    radius=st.integers(0, 4),
)
def test_median_keeps_the_count_and_values_that_came_in(values: list[float], radius: int) -> None:
    planes = [torch.full((2, 3), value) for value in values]
    out = list(smooth_by_median(planes, radius))
    assert len(out) == len(planes)
    assert all(float(it[0, 0]) in [float(plane[0, 0]) for plane in planes] for it in out)
    if radius == 0:
        assert all(torch.equal(a, b) for a, b in zip(out, planes, strict=True))


@given(values=st.lists(st.floats(0, 1, width=32), max_size=9), radius=st.integers(0, 3))
def test_median_knows_no_direction_and_no_side(values: list[float], radius: int) -> None:
    """Backward in time, and of what lies outside, it is the same median."""
    planes = [torch.full((1, 1), value) for value in values]
    out = list(smooth_by_median(planes, radius))
    assert list(smooth_by_median(planes[::-1], radius))[::-1] == out
    outside = list(smooth_by_median([1 - plane for plane in planes], radius))
    torch.testing.assert_close([1 - plane for plane in outside], out)


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_only_a_window_is_alive(clip: tuple[list[Tensor], list[Tensor]], radius: int) -> None:
    taken = 0

    def counted() -> Iterator[Tensor]:
        nonlocal taken
        for plane in clip[1]:
            taken += 1
            yield plane

    for given_out, _ in enumerate(smooth_by_motion(clip[0], counted(), radius)):
        assert taken - given_out <= radius + 1
    taken = 0
    for given_out, _ in enumerate(fill_gaps(clip[0], counted(), radius)):
        assert taken - given_out <= radius + 2


def test_lengths_must_agree_and_counts_be_sane(clip: tuple[list[Tensor], list[Tensor]]) -> None:
    with pytest.raises(ValueError, match="more frames than masks"):
        list(fill_gaps(clip[0], clip[1][:-1], 1))
    with pytest.raises(ValueError, match="more masks than frames"):
        list(smooth_by_motion(clip[0][:-1], clip[1], 1))
    with pytest.raises(ValueError, match="radius is -1 frames"):
        list(smooth_by_median(clip[1], -1))


def test_cuts_between_scenes_and_none_within() -> None:
    """Moving shapes, a pan of a twentieth a frame and changing light are one shot."""
    scene = world.Scene(
        world.Background("checks", "blue", "white"), "circle", "red", motion="rightward"
    )
    moving = [torch.from_numpy(world.draw(it, 96)[0]) for it in world.frames_of(scene, 8)]
    rng = np.random.default_rng(2)
    wide = torch.from_numpy(texture(rng, 2 * SIZE, (120, 80, 60)).astype(np.uint8))
    pan = [wide[:, 8 * k : 8 * k + SIZE].contiguous() for k in range(8)]
    light = [(pan[-1].float() * (1 - 0.1 * k)).to(torch.uint8) for k in range(4)]
    numbers = [shot for shot, _ in split_shots([*moving, *pan, *light, *moving])]
    assert numbers == [0] * 8 + [1] * 12 + [2] * 8
