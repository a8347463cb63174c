"""Maps on the latent grid: which cell takes which token's value, and how they are averaged."""

import pytest
import torch

from frisket.attention.maps import (
    average,
    compare_phrases,
    lay_on_grid,
    normalise_over_space,
    scale_to_peak,
)


def count_up(*shape: int) -> torch.Tensor:
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).view(shape)


def test_each_cell_takes_the_value_of_its_token():
    laid = lay_on_grid(count_up(1, 1, 2, 2, 3), (2, 4, 6))
    assert laid.shape == (1, 1, 2, 4, 6)
    for frame in range(2):
        for row in range(4):
            for column in range(6):
                expected = frame * 6 + (row // 2) * 3 + column // 2
                assert laid[0, 0, frame, row, column] == expected


def test_a_token_that_spans_frames_gives_each_its_value():
    laid = lay_on_grid(count_up(1, 1, 1, 2, 2), (2, 2, 2))
    torch.testing.assert_close(laid[:, :, 0], laid[:, :, 1])


def test_a_grid_that_is_there_already_stays():
    maps = count_up(2, 3, 1, 4, 4)
    assert lay_on_grid(maps, (1, 4, 4)) is maps


def test_smooth_maps_are_interpolated():
    laid = lay_on_grid(count_up(1, 1, 1, 1, 2), (1, 1, 4), smooth=True)
    torch.testing.assert_close(laid.flatten(), torch.tensor([0, 0.25, 0.75, 1.0]))


@pytest.mark.parametrize(("frames", "grid"), [(2, 1), (2, 3)])
def test_frames_that_do_not_fit_are_refused(frames, grid):
    with pytest.raises(ValueError, match=f"a map of {frames} frames does not lie on a grid of"):
        lay_on_grid(count_up(1, 1, frames, 2, 2), (grid, 4, 4))


def test_layers_and_calls_count_alike():
    fine, coarse = count_up(1, 2, 1, 4, 4), count_up(1, 2, 1, 2, 2)
    both = average({"a": fine, "b": coarse}, (1, 4, 4))
    torch.testing.assert_close(both, (fine + lay_on_grid(coarse, (1, 4, 4))) / 2)
    calls = [{"a": fine}, {"a": 3 * fine}]
    torch.testing.assert_close(average(calls, (1, 4, 4)), 2 * fine)
    with pytest.raises(ValueError, match="no attention was captured"):
        average({}, (1, 4, 4))


def test_views_of_maps():
    maps = count_up(1, 2, 1, 2, 2) + 1
    torch.testing.assert_close(compare_phrases(maps).sum(1), torch.ones(1, 1, 2, 2))
    peaked = scale_to_peak(maps)
    torch.testing.assert_close(peaked.amax((2, 3, 4)), torch.ones(1, 2))
    torch.testing.assert_close(peaked.amin((2, 3, 4)), torch.zeros(1, 2))
    torch.testing.assert_close(normalise_over_space(maps).sum((2, 3, 4)), torch.ones(1, 2))
    flat = torch.zeros(1, 1, 1, 2, 2)
    assert not scale_to_peak(flat).any()
    assert not normalise_over_space(flat).any()
