"""What a VAE carries over the border of a mask, on convolutions whose reach is known."""

import pytest
import torch
from torch import nn

from frisket.grid import LatentGrid
from frisket.inspection.checks.halo import Halo, look_at_halos, measure_halo

GRID = LatentGrid(channels=4, spatial=8)


def encoder(reach: int, pooled: bool = False):
    """A linear encoder to 8-pixel cells that sees `reach` more cells on every side."""
    torch.manual_seed(0)
    patch = nn.Conv2d(3, 4, 8, stride=8, bias=False)
    around = nn.Conv2d(4, 4, 2 * reach + 1, padding=reach, bias=False)

    @torch.no_grad()
    def encode(clip):
        cells = around(patch(clip[:, :, 0]))
        if pooled:
            cells = cells + 3 * cells.mean((2, 3), keepdim=True)
        return cells[:, :, None]

    return encode


def picture() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    inside = torch.zeros(160, 160, dtype=torch.bool)
    inside[32:128, 32:128] = True
    return torch.rand(1, 3, 1, 160, 160) * 2 - 1, inside


@pytest.mark.parametrize("reach", [0, 1, 2, 3])
def test_the_reach_of_a_convolution_is_measured(reach: int) -> None:
    seen = measure_halo(encoder(reach), *picture(), GRID)
    assert seen is not None
    assert seen.shrink == reach * 8
    assert all(change > 0.1 for change in seen.change[:reach])
    assert all(change < 1e-6 for change in seen.change[reach:])


def test_an_encoder_that_pools_is_heard_everywhere() -> None:
    seen = measure_halo(
        encoder(1, pooled=True), torch.ones(1, 3, 1, 160, 160) * 0.5, picture()[1], GRID
    )
    assert seen is not None
    assert seen.shrink is None
    (found,) = look_at_halos([seen])
    assert (found.kind, found.severity) == ("halo", "warning")
    assert "swap" in found.fix


def test_the_finding_says_how_many_pixels() -> None:
    (found,) = look_at_halos([Halo((0.5, 0.2, 0.0), 16.0)] * 3)
    assert "masks.grow = -16" in found.fix
    assert not list(look_at_halos([Halo((0.01,), 0.0)]))
    assert not list(look_at_halos([]))


def test_masks_that_hold_no_cell_or_all_tell_nothing() -> None:
    clip, _ = picture()
    assert measure_halo(encoder(1), clip, torch.zeros(160, 160, dtype=torch.bool), GRID) is None
    assert measure_halo(encoder(1), clip, torch.ones(160, 160, dtype=torch.bool), GRID) is None
