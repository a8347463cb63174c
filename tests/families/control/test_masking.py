"""Residuals under a mask: shares of cells, exact zeros, sequences with more than a picture."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.families.control.base import Residual, Residuals
from frisket.families.control.masking import mask_residuals, resample_area

SIZES = st.integers(1, 9)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def apply(residual: Residual, mask: torch.Tensor, side="inside") -> torch.Tensor:
    (masked,) = mask_residuals(Residuals({"place": (residual,)}), mask, side).places["place"]
    assert (masked.cells, masked.first) == (residual.cells, residual.first)
    return masked.value


@settings(max_examples=60, deadline=None)
@given(SIZES, SIZES, SIZES, SIZES, SIZES, SIZES, st.integers(0, 99))
def test_area_keeps_the_mean_and_invents_no_value(f, h, w, frames, rows, columns, seed):
    plane = draw(2, f, h, w, seed=seed)
    output = resample_area(plane, (frames, rows, columns))
    assert output.shape == (2, frames, rows, columns)
    torch.testing.assert_close(output.mean((1, 2, 3)), plane.mean((1, 2, 3)))
    assert output.min() >= plane.min() - 1e-6
    assert output.max() <= plane.max() + 1e-6
    assert torch.equal(resample_area(torch.ones_like(plane), output.shape[1:]), output * 0 + 1)
    assert not resample_area(torch.zeros_like(plane), output.shape[1:]).any()


def test_a_cell_across_an_edge_takes_the_share_of_both():
    plane = torch.tensor([[[[1.0, 1.0, 0.0]]]])
    torch.testing.assert_close(resample_area(plane, (1, 1, 2))[0, 0, 0], torch.tensor([1, 1 / 3]))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), SIZES, SIZES, SIZES, SIZES, st.integers(0, 99))
def test_inside_and_outside_are_the_whole(f, h, w, rows, columns, seed):
    mask = (draw(2, 1, f, h, w, seed=seed) > 0.5).float()
    cells = (f, rows, columns)
    value = draw(2, f * rows * columns + 3, 4, seed=seed + 1) - 0.5
    inside, outside = (apply(Residual(value, cells), mask, side) for side in ("inside", "outside"))
    torch.testing.assert_close(inside + outside, value)
    share = resample_area(mask[:, 0], cells).flatten(1)
    count = share.shape[1]
    assert not inside[:, :count][share == 0].any()
    assert not outside[:, :count][share == 1].any()
    assert torch.equal(inside[:, :count][share == 1], value[:, :count][share == 1])


def test_a_picture_of_odd_size_is_masked_at_its_own_cells():
    value, mask = draw(1, 3, 5, 7), torch.zeros(1, 1, 1, 9, 13)
    mask[..., :, :6] = 1
    masked = apply(Residual(value, (1, 5, 7)), mask)
    assert torch.equal(masked[..., :3], value[..., :3])
    assert not masked[..., 4:].any()
    share = (6 - 3 * 13 / 7) / (13 / 7)  # of the fourth column
    torch.testing.assert_close(masked[..., 3], value[..., 3] * share)


def test_latent_frames_have_masks_of_their_own():
    value, mask = draw(1, 2 * 4, 3), torch.zeros(1, 1, 2, 4, 4)
    mask[:, :, 1] = 1
    masked = apply(Residual(value, (2, 2, 2)), mask)
    assert not masked[:, :4].any()
    assert torch.equal(masked[:, 4:], value[:, 4:])


def test_rows_that_are_no_cell_have_the_mean_of_the_picture():
    value, mask = draw(1, 9, 2), torch.zeros(1, 1, 1, 2, 2)
    mask[..., 0] = 1
    masked = apply(Residual(value, (1, 2, 2), first=2), mask)
    torch.testing.assert_close(masked[:, :2], value[:, :2] / 2)
    torch.testing.assert_close(masked[:, 6:], value[:, 6:] / 2)
    assert torch.equal(masked[:, 2:6:2], value[:, 2:6:2])
    assert not masked[:, 3:6:2].any()


def test_each_row_has_its_own_mask_or_all_have_one():
    value = draw(2, 4, 3)
    masks = torch.stack([torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)])
    each = apply(Residual(value, (1, 2, 2)), masks)
    assert torch.equal(each[0], value[0])
    assert not each[1].any()
    assert not apply(Residual(value, (1, 2, 2)), masks[1:]).any()


def test_zero_is_exact_even_of_what_is_not_finite():
    value = torch.full((1, 4, 1), float("inf"))
    assert not apply(Residual(value, (1, 2, 2)), torch.zeros(1, 1, 1, 2, 2)).any()


def test_gradients_reach_what_is_inside_alone():
    value = draw(1, 4, 2).requires_grad_()
    mask = torch.zeros(1, 1, 1, 2, 2)
    mask[..., 0] = 1
    apply(Residual(value, (1, 2, 2)), mask).sum().backward()
    assert torch.equal(value.grad[0, :, 0], torch.tensor([1.0, 0, 1, 0]))


@pytest.mark.parametrize(
    ("residual", "mask", "words"),
    [
        (Residual(draw(1, 4, 2), (1, 2, 2)), draw(1, 1, 2, 2), "b 1 f h w"),
        (Residual(draw(1, 3, 2), (1, 2, 2)), draw(1, 1, 1, 2, 2), "rows"),
        (Residual(draw(1, 3, 4, 4), (1, 2, 2)), draw(1, 1, 1, 2, 2), "cells"),
    ],
)
def test_what_does_not_fit_is_named(residual, mask, words):
    with pytest.raises(ValueError, match=words):
        apply(residual, mask)
