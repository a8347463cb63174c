"""Growing, feathering and filling planes, in pixels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from frisket.grid import LatentGrid
from frisket.masks.morphology import feather, feather_cells, fill_holes, grow

UNIT = st.floats(0, 1, width=32)
PLANES = hnp.arrays(np.float32, (2, 9, 11), elements=UNIT).map(torch.from_numpy)
GRID = LatentGrid(4, 8)


def distance(height: int, width: int, row: float, column: float) -> Tensor:
    """Distance of every pixel from a point."""
    rows, columns = torch.arange(height)[:, None] - float(row), torch.arange(width) - float(column)
    return torch.hypot(rows, columns)


def disc(radius: float, size: int = 81) -> Tensor:
    """A hard disc in the middle of a plane."""
    return (distance(size, size, size // 2, size // 2) <= radius).float()[None]


@pytest.mark.parametrize("pixels", [1.0, 2.0, 5.0, 12.0])
def test_grow_reaches_exactly_so_many_pixels(pixels: int) -> None:
    point = torch.zeros(1, 31, 31)
    point[0, 15, 15] = 1
    assert torch.equal(grow(point, pixels)[0], (distance(31, 31, 15, 15) <= pixels).float())


def test_grow_and_shrink_change_a_disc_by_its_radius() -> None:
    assert float(grow(disc(20), 7.0).sum()) == pytest.approx(math.pi * 27**2, rel=0.03)
    assert float(grow(disc(20), -7.0).sum()) == pytest.approx(math.pi * 13**2, rel=0.06)


@settings(max_examples=30, deadline=None)
@given(plane=PLANES, pixels=st.floats(0, 4))
def test_shrinking_is_growing_the_rest(plane: Tensor, pixels: float) -> None:
    torch.testing.assert_close(grow(plane, -pixels), 1 - grow(1 - plane, pixels))


@settings(max_examples=30, deadline=None)
@given(plane=PLANES, less=st.floats(0, 3), more=st.floats(0, 3))
def test_growing_more_covers_more_and_keeps_the_range(
    plane: Tensor, less: float, more: float
) -> None:
    some, wider = grow(plane, less), grow(plane, less + more)
    assert (some >= plane).all()
    assert (wider >= some - 1e-6).all()
    assert wider.max() <= 1
    assert torch.equal(grow(plane, 0.0), plane)


def test_fractions_of_a_pixel_blend_whole_radii() -> None:
    half = (grow(disc(9), 2.0) + grow(disc(9), 3.0)) / 2
    torch.testing.assert_close(grow(disc(9), 2.5), half)


def test_grow_keeps_grey_values() -> None:
    plane = 0.4 * disc(5)
    assert set(grow(plane, 3.0).unique().tolist()) == set(plane.unique().tolist())


def test_a_subject_cut_by_the_border_is_not_shrunk_there() -> None:
    plane = torch.zeros(1, 9, 9)
    plane[:, :, :5] = 1
    assert torch.equal(grow(plane, -2.0)[0, :, :3], torch.ones(9, 3))
    assert not grow(plane, -2.0)[0, :, 3:].any()


@settings(max_examples=30, deadline=None)
@given(plane=PLANES, pixels=st.floats(0, 6))
def test_feather_stays_in_range_and_flips_with_the_plane(plane: Tensor, pixels: float) -> None:
    soft = feather(plane, pixels)
    assert soft.min() >= plane.min() - 1e-6
    assert soft.max() <= plane.max() + 1e-6
    torch.testing.assert_close(feather(plane.flip(-1), pixels), soft.flip(-1))


@given(value=UNIT, pixels=st.floats(0, 20))
def test_feather_keeps_constants_bit_for_bit(value: float, pixels: float) -> None:
    plane = torch.full((1, 7, 5), value)
    assert torch.equal(feather(plane, pixels), plane)


@pytest.mark.parametrize("pixels", [0.5, 2.0, 3.5, 8.0])
def test_feather_reaches_no_farther_than_its_pixels(pixels: float) -> None:
    edge = torch.zeros(1, 5, 60)
    edge[..., 30:] = 1
    soft, reach = feather(edge, pixels)[0, 2], math.ceil(pixels)
    assert (soft[: 30 - reach] == 0).all()
    assert (soft[30 + reach :] == 1).all()
    slope = soft[30 - reach : 30 + reach]
    assert (slope.diff() > 0).all()
    torch.testing.assert_close(slope, 1 - slope.flip(0))


def test_a_hole_is_filled_and_a_bay_is_not() -> None:
    plane = disc(20)
    plane[0, 38:43, 38:43] = 0
    assert torch.equal(fill_holes(plane), disc(20))
    plane[0, 40, :41] = 0
    assert torch.equal(fill_holes(plane), plane)


def test_a_hole_takes_the_grey_of_its_rim_and_soft_edges_are_raised() -> None:
    plane = 0.6 * disc(20)
    plane[0, 39:42, 39:42] = 0
    torch.testing.assert_close(fill_holes(plane), 0.6 * disc(20))
    soft = (distance(81, 81, 40, 40) / 6).clamp(0, 1)[None] * disc(20)
    assert torch.equal(fill_holes(soft), disc(20))


def test_holes_are_closed_frame_by_frame_and_nothing_is_lowered() -> None:
    holed = disc(20)
    holed[0, 40, 40] = 0
    grey = 0.3 * disc(20)
    filled = fill_holes(torch.cat([holed, grey]))
    assert torch.equal(filled, torch.cat([disc(20), grey]))


@pytest.mark.parametrize("change", [lambda p: grow(p, 2.0), lambda p: feather(p, 2.0), fill_holes])
def test_a_still_mask_over_a_long_clip_is_changed_once(change: object) -> None:
    still = disc(9).expand(10_000, -1, -1)  # 2 GB and minutes if each frame were worked on
    changed = change(still)  # type: ignore[operator]
    assert changed.shape == still.shape
    assert changed.stride(0) == 0


@pytest.mark.parametrize("pixels", [math.nan, math.inf])
def test_endless_radii_are_refused(pixels: float) -> None:
    for change in (grow, feather):
        with pytest.raises(ValueError, match=f"{pixels} pixels"):
            change(disc(3), pixels)
    with pytest.raises(ValueError, match=r"-1\.0 pixels"):
        feather(disc(3), -1.0)


COVERAGES = hnp.arrays(np.float32, (2, 2, 2, 5, 6), elements=UNIT).map(torch.from_numpy)


@settings(max_examples=30, deadline=None)
@given(coverage=COVERAGES, pixels=st.floats(0, 40))
def test_cells_are_feathered_sample_by_sample(coverage: Tensor, pixels: float) -> None:
    soft = feather_cells(coverage, torch.tensor([0.0, pixels]), GRID)
    assert torch.equal(soft[0], coverage[0])
    assert soft[1].min() >= coverage[1].min() - 1e-6
    assert soft[1].max() <= coverage[1].max() + 1e-6
    alone = feather_cells(coverage[1:], torch.tensor([pixels]), GRID)
    torch.testing.assert_close(soft[1:], alone)


@given(value=UNIT, pixels=st.floats(0, 100))
def test_feathering_cells_keeps_constants_bit_for_bit(value: float, pixels: float) -> None:
    coverage = torch.full((1, 1, 2, 3, 4), value)
    assert torch.equal(feather_cells(coverage, torch.tensor([pixels]), GRID), coverage)


def test_the_radius_of_a_cell_feather_is_in_pixels_and_leaves_time_alone() -> None:
    coverage = torch.zeros(1, 1, 3, 21, 21)
    coverage[0, 0, 1, 10, 10] = 1
    soft = feather_cells(coverage, torch.tensor([24.0]), GRID)  # 24 pixels are 3 cells
    assert soft[0, 0, 1, 10, 7:14].min() > 0
    assert not soft[0, 0, 1, 10, :7].any()
    assert not soft[0, 0, 0].any()
    assert not soft[0, 0, 2].any()
    assert soft.sum().item() == pytest.approx(1, abs=1e-5)


def test_feathered_cells_are_single_precision() -> None:
    coverage = torch.rand(1, 1, 1, 4, 4).bfloat16()
    for pixels in (0.0, 20.0):
        soft = feather_cells(coverage, torch.tensor([pixels], dtype=torch.bfloat16), GRID)
        assert soft.dtype == torch.float32
