"""Sizes that fit the grid, keep the area and crop little."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from frisket.grid import LatentGrid
from frisket.media.buckets import bucket

WAN = LatentGrid(channels=16, spatial=8, temporal=4)
POCKET = LatentGrid(channels=4, spatial=4)


def at(height, width, resolution, grid=WAN, frames=1, keep_aspect=True, enlarge=True):
    return bucket(
        height,
        width,
        frames,
        resolution=resolution,
        grid=grid,
        keep_aspect=keep_aspect,
        enlarge=enlarge,
    )


@given(
    height=st.integers(16, 4000),
    width=st.integers(16, 4000),
    resolution=st.integers(64, 1280),
    grid=st.sampled_from([WAN, POCKET, LatentGrid(channels=48, spatial=16, temporal=4)]),
)
def test_buckets_fit_the_grid_and_never_exceed_the_area(height, width, resolution, grid):
    rows, columns = at(height, width, resolution, grid)
    assert rows % grid.step == columns % grid.step == 0
    assert rows * columns <= resolution**2
    assert max(rows, columns) <= 4 * min(rows, columns)
    assert at(height, width, resolution, grid) == (rows, columns)


@given(height=st.integers(100, 2000), width=st.integers(100, 2000))
def test_buckets_crop_little_and_use_the_area(height, width):
    assume(1 / 3 < height / width < 3)
    rows, columns = at(height, width, 512)
    kept = min(rows * width, columns * height) / max(rows * width, columns * height)
    assert kept > 0.96
    assert rows * columns > 0.88 * 512**2


@given(height=st.integers(64, 2000), width=st.integers(64, 2000))
def test_turning_the_clip_turns_its_bucket(height, width):
    rows, columns = at(height, width, 480)
    turned = at(width, height, 480)
    assert turned in ((columns, rows), (rows, columns))
    assert height == width or turned == (columns, rows)


def test_familiar_sizes():
    assert at(1000, 1000, 512) == (512, 512)
    assert at(480, 832, (832, 480)) == (480, 832)
    assert at(1920, 1080, (832, 480)) == (832, 480)
    assert at(32, 32, 32, POCKET) == (32, 32)
    assert at(100, 9000, 512) == (256, 1024)  # clamped to 1:4


def test_without_aspect_every_clip_gets_the_one_frame():
    assert at(100, 900, (832, 480), keep_aspect=False) == (480, 832)
    assert at(100, 900, 512, keep_aspect=False) == (512, 512)


def test_small_clips_keep_their_size_where_none_is_enlarged():
    assert at(100, 300, 512, enlarge=False) == (96, 288)
    assert at(10, 300, 512, enlarge=False) == (16, 288)
    assert at(1000, 3000, 512, enlarge=False) == at(1000, 3000, 512)
    assert at(100, 300, (256, 128), keep_aspect=False, enlarge=False) == (128, 256)


def test_a_fixed_frame_off_the_grid_names_the_nearest():
    with pytest.raises(ValueError, match=r"resolution 850 x 475 \(width x height\) does not fit"):
        at(480, 832, (850, 475), keep_aspect=False)
    with pytest.raises(
        ValueError, match=r"multiples of 16 for this model; the nearest is 848 x 480"
    ):
        at(480, 832, (850, 475), keep_aspect=False)


def test_impossible_requests():
    with pytest.raises(
        ValueError, match=r"resolution 8 x 8 .* is less than one step .* at least 16"
    ):
        at(100, 100, 8)
    with pytest.raises(ValueError, match="6 frames do not fit the latent grid"):
        at(100, 100, 64, frames=6)
    with pytest.raises(ValueError, match="a clip of 10 x 0 pixels has no size"):
        at(0, 10, 64)
