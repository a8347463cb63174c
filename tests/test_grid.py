"""The latent grid: cells of a clip, frames behind a cell, and what does not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frisket.grid import LatentGrid

WAN = LatentGrid(channels=16, spatial=8, temporal=4, patch=2)
IMAGE = LatentGrid(channels=4, spatial=8)


def test_cells_of_a_causal_video():
    assert WAN.cells(81, 480, 832) == (21, 60, 104)
    assert WAN.cells(1, 480, 832) == (1, 60, 104)


def test_an_image_grid_takes_any_number_of_frames():
    assert IMAGE.cells(7, 512, 768) == (7, 64, 96)


@pytest.mark.parametrize("frames", [0, 2, 4, 80, 82])
def test_frames_that_do_not_fit_name_the_nearest(frames):
    with pytest.raises(ValueError, match=rf"{frames} frames .* 1 \+ n \* 4"):
        WAN.cells(frames, 480, 832)


def test_the_nearest_fitting_frames_are_named():
    with pytest.raises(ValueError, match="nearest below: 77"):
        WAN.cells(80, 480, 832)


@pytest.mark.parametrize(("height", "width"), [(0, 8), (8, 0), (12, 16), (16, 20), (4, 8)])
def test_sides_that_do_not_fit_name_the_multiple(height, width):
    with pytest.raises(ValueError, match="multiples of 8"):
        IMAGE.cells(1, height, width)


def test_a_step_is_a_whole_patch():
    assert WAN.step == 16


@given(st.integers(1, 300), st.integers(1, 8))
def test_fitted_frames_fit_and_are_the_largest(frames, temporal):
    grid = LatentGrid(channels=1, spatial=1, temporal=temporal)
    fitted = grid.fit_frames(frames)
    assert frames - temporal < fitted <= frames
    assert grid.cells(fitted, 1, 1)[0] == 1 + (fitted - 1) // temporal


@given(st.integers(1, 40), st.integers(1, 8))
def test_every_pixel_frame_stands_behind_exactly_one_latent_frame(latent_frames, temporal):
    grid = LatentGrid(channels=1, spatial=1, temporal=temporal)
    frames = 1 + (latent_frames - 1) * temporal
    behind = [frame for index in range(latent_frames) for frame in grid.frames_of(index)]
    assert behind == list(range(frames))
    assert grid.cells(frames, 1, 1)[0] == latent_frames
