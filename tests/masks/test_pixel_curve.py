"""A value curve in pixels, before a cell reads them: not the curve of the weights."""

import pytest
import torch
from pydantic import ValidationError

from frisket.config.tree import Config
from frisket.data.mask_pipeline import read_cells
from frisket.data.records import Masking
from frisket.grid import LatentGrid
from frisket.masks.morphology import bend

GRID = LatentGrid(4, 8)


def test_the_curve_lifts_every_pixel_and_none_leaves_it_bit_for_bit() -> None:
    planes = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(bend(planes), planes)
    torch.testing.assert_close(bend(planes, 0.5, 0.2), 0.2 + 0.8 * planes.sqrt())


def test_gamma_in_pixels_leaves_a_hard_mask_alone_and_gamma_of_weights_does_not() -> None:
    half = torch.zeros(1, 1, 8, 8)
    half[..., :4] = 1
    cell = read_cells(half, Masking(), GRID)
    assert cell.item() == 0.5
    assert read_cells(half, Masking(pixel_gamma=0.5), GRID).item() == 0.5
    assert (cell**0.5).item() != 0.5  # what curve.gamma makes of it
    assert read_cells(half, Masking(pixel_floor=0.1), GRID).item() == pytest.approx(0.55)


@pytest.mark.parametrize(("gamma", "floor"), [(0.0, 0.0), (-1.0, 0.0), (1.0, 1.0), (1.0, -0.1)])
def test_a_curve_without_meaning_is_refused(gamma: float, floor: float) -> None:
    with pytest.raises(ValueError, match="pixel_gamma is"):
        bend(torch.zeros(1, 1, 8, 8), gamma, floor)


def test_named_regions_have_no_curve_in_pixels() -> None:
    masks = {"path": "masks", "levels": {"face": 255}, "pixel_gamma": 0.5}
    data = [{"clips": "clips", "masks": masks}]
    with pytest.raises(ValidationError, match=r"are for grey masks.*\[regions\], curve.gamma"):
        Config.model_validate({"data": data, "regions": {"face": 1.0}})
