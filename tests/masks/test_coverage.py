"""The laws of coverage: every cell reads its own pixels and frames, exactly."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from frisket.grid import LatentGrid
from frisket.masks.coverage import CellReading, to_latent
from frisket.masks.cut import cut_to_latent
from frisket.media.geometry import Geometry, MaskMismatch

READINGS: tuple[CellReading, ...] = ("mean", "max", "min")
SMALL = LatentGrid(channels=4, spatial=4, temporal=4)


@st.composite
def clips(draw: st.DrawFn) -> tuple[LatentGrid, Tensor]:
    """A grid and random planes that fit it."""
    grid = LatentGrid(4, draw(st.sampled_from([1, 2, 3, 8])), draw(st.integers(1, 4)))
    k, f, h, w = (draw(st.integers(1, 3)) for _ in range(4))
    shape = (k, 1 + (f - 1) * grid.temporal, h * grid.spatial, w * grid.spatial)
    values = draw(hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32)))
    return grid, torch.from_numpy(values)


def by_hand(planes: Tensor, grid: LatentGrid, reading: CellReading) -> Tensor:
    """The rule as a loop over cells in double precision."""
    reduce = {"mean": torch.mean, "max": torch.max, "min": torch.min}[reading]
    cells = torch.zeros(planes.shape[0], *grid.cells(*planes.shape[1:]), dtype=torch.float64)
    for k, f, h, w in np.ndindex(*cells.shape):
        frames = grid.frames_of(f)
        rows = slice(h * grid.spatial, (h + 1) * grid.spatial)
        columns = slice(w * grid.spatial, (w + 1) * grid.spatial)
        cells[k, f, h, w] = reduce(planes[k, frames.start : frames.stop, rows, columns].double())
    return cells


@settings(max_examples=60, deadline=None)
@given(clip=clips(), reading=st.sampled_from(READINGS))
def test_every_cell_is_what_a_loop_over_its_own_pixels_and_frames_gives(
    clip: tuple[LatentGrid, Tensor], reading: CellReading
) -> None:
    grid, planes = clip
    cells = to_latent(planes, grid, reading)
    assert cells.dtype == torch.float32
    torch.testing.assert_close(cells.double(), by_hand(planes, grid, reading), rtol=0, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(clip=clips())
def test_max_mean_min_are_ordered_and_in_range(clip: tuple[LatentGrid, Tensor]) -> None:
    grid, planes = clip
    low, mean, high = (to_latent(planes, grid, reading) for reading in ("min", "mean", "max"))
    assert (low <= mean + 1e-6).all()
    assert (mean <= high + 1e-6).all()
    assert (low >= 0).all()
    assert (high <= 1).all()


@settings(max_examples=40, deadline=None)
@given(clip=clips(), reading=st.sampled_from(READINGS))
def test_flipping_commutes_with_coverage(
    clip: tuple[LatentGrid, Tensor], reading: CellReading
) -> None:
    grid, planes = clip
    flipped = to_latent(planes.flip(-1), grid, reading)
    torch.testing.assert_close(flipped, to_latent(planes, grid, reading).flip(-1))


@given(value=st.floats(0, 1, width=32), reading=st.sampled_from(READINGS))
def test_constants_are_kept(value: float, reading: CellReading) -> None:
    cells = to_latent(torch.full((1, 5, 8, 8), value), SMALL, reading)
    torch.testing.assert_close(cells, torch.full((1, 2, 2, 2), value), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("spatial", [3, 8, 16])
def test_zeros_and_ones_stay_exact(reading: CellReading, value: float, spatial: int) -> None:
    planes = torch.full((2, 1 + 3 * 2, spatial * 2, spatial * 3), value)
    assert (to_latent(planes, LatentGrid(4, spatial, 3), reading) == value).all()


@given(hnp.arrays(np.float32, (2, 1, 8, 16), elements=st.floats(0, 1, width=32)))
def test_mean_coverage_of_an_image_is_its_pixel_mean(values: np.ndarray) -> None:
    planes = torch.from_numpy(values)
    cells = to_latent(planes, SMALL)
    torch.testing.assert_close(cells.mean((1, 2, 3)), planes.mean((1, 2, 3)))


@pytest.mark.parametrize("reading", ["mean", "max"])
def test_one_pixel_touches_one_cell_of_one_latent_frame(reading: CellReading) -> None:
    for frame in range(9):
        planes = torch.zeros(1, 9, 8, 8)
        planes[0, frame, 5, 2] = 1
        touched = to_latent(planes, SMALL, reading).nonzero().tolist()
        assert touched == [[0, 0 if frame == 0 else (frame + 3) // 4, 1, 0]]


def test_a_region_one_pixel_thin_survives_max_and_is_refused_by_min() -> None:
    planes = torch.zeros(1, 1, 64, 64)
    planes[:, :, :, 13] = 1
    grid = LatentGrid(16, 8)
    assert (to_latent(planes, grid, "max")[..., 1] == 1).all()
    assert (to_latent(planes, grid)[..., 1] == 1 / 8).all()
    assert not to_latent(planes, grid, "min").any()


def test_a_flash_of_one_frame_survives_max() -> None:
    planes = torch.zeros(1, 5, 8, 8)
    planes[:, 3] = 1
    assert to_latent(planes, SMALL, "max")[0, 1].min() == 1
    assert to_latent(planes, SMALL)[0, 1].max() == 0.25


def test_half_precision_planes_are_averaged_in_single() -> None:
    cells = to_latent(torch.full((1, 1, 64, 64), 0.1, dtype=torch.bfloat16), LatentGrid(4, 64))
    assert cells.dtype == torch.float32
    assert cells.item() == pytest.approx(float(torch.tensor(0.1, dtype=torch.bfloat16)), rel=1e-6)


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 4, 8, 8), "4 frames"), ((1, 5, 9, 8), "9 x 8"), ((1, 5, 8, 2), "8 x 2")],
)
def test_planes_that_do_not_fit_are_refused(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        to_latent(torch.zeros(shape), SMALL)


@settings(max_examples=60, deadline=None)
@given(
    source=st.tuples(st.integers(9, 70), st.integers(9, 70)),
    target=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    times=st.sampled_from([0.5, 1, 2, 3]),
    flip=st.booleans(),
    reading=st.sampled_from(READINGS),
)
# A pure crop by an odd number of pixels stays on whole pixels, half a pixel beside the middle.
@example(source=(11, 16), target=(2, 4), times=1, flip=False, reading="mean")
def test_cutting_straight_to_cells_is_cutting_and_then_laying(
    source: tuple[int, int], target: tuple[int, int], times: float, flip: bool, reading: CellReading
) -> None:
    grid = LatentGrid(4, 4, 2)
    height, width = (max(1, round(side * times)) for side in source)
    geometry = Geometry(source, (target[0] * 4, target[1] * 4), (0, 1, 2), flip)
    plane = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height))
    try:
        wanted = to_latent(geometry.plane(plane)[None], grid, reading)[0]
    except MaskMismatch:
        with pytest.raises(MaskMismatch):
            cut_to_latent(plane, geometry, grid, reading)
        return
    torch.testing.assert_close(
        cut_to_latent(plane, geometry, grid, reading), wanted, rtol=0, atol=2e-6
    )
