"""What the extractors find, what they leave alone, and that a gradient comes back."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.losses.structure.reward_scene import draw_direction, draw_picture
from torch import Tensor

from frisket.losses.structure import (
    EXTRACTORS,
    average_colours,
    blur_luminance,
    find_canny,
    find_edges,
    measure_luminance,
)

RECORDED = json.loads(Path(__file__).with_name("controlnet_plus.json").read_text())


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", EXTRACTORS)
def test_a_map_has_the_clips_size_is_finite_and_carries_a_gradient(name: str) -> None:
    clip = draw(2, 3, 2, 12, 15).requires_grad_()
    found = EXTRACTORS[name](clip)
    assert found.shape in ((2, 1, 2, 12, 15), (2, 3, 2, 12, 15))
    assert found.dtype == torch.float32
    (gradient,) = torch.autograd.grad(found.square().sum(), clip)
    assert gradient.isfinite().all()
    assert gradient.flatten(1).any(1).all()
    assert EXTRACTORS[name](clip.detach().to(torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("name", EXTRACTORS)
def test_frames_and_clips_know_no_other(name: str) -> None:
    clip = draw(2, 3, 3, 9, 10)
    found = EXTRACTORS[name](clip)
    alone = EXTRACTORS[name](clip[1:, :, 2:])
    torch.testing.assert_close(found[1:, :, 2:], alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_a_flat_picture_has_a_finite_gradient(name: str) -> None:
    clip = torch.full((1, 3, 1, 8, 8), 0.4).requires_grad_()
    (gradient,) = torch.autograd.grad(EXTRACTORS[name](clip).sum(), clip)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", EXTRACTORS)
def test_what_is_no_rgb_clip_is_refused(name: str) -> None:
    with pytest.raises(Exception, match=r"expected RGB, b 3 F H W|[Tt]ype-check"):
        EXTRACTORS[name](draw(2, 4, 1, 8, 8))


def test_edges_are_one_at_a_step_and_zero_in_a_flat_picture() -> None:
    clip = torch.zeros(1, 3, 1, 8, 8)
    assert torch.equal(find_edges(clip), torch.zeros(1, 1, 1, 8, 8))
    clip[..., 4:] = 1
    edges = find_edges(clip)[0, 0, 0]
    assert edges[:, 3:5].sub(1).abs().max() < 2e-3
    assert not edges[:, :3].any()
    assert not edges[:, 5:].any()
    turned = find_edges(clip.transpose(3, 4))[0, 0, 0]
    torch.testing.assert_close(turned, edges.T)


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(0, 0.4), seed=st.integers(0, 99))
def test_edges_do_not_see_how_light_it_is_and_follow_a_mirror(shift: float, seed: int) -> None:
    clip = draw(1, 3, 1, 9, 11, seed=seed) * 0.5
    edges = find_edges(clip)
    torch.testing.assert_close(find_edges(clip + shift), edges, atol=1e-5, rtol=0)
    torch.testing.assert_close(find_edges(clip.flip(4)), edges.flip(4), atol=1e-6, rtol=0)


def test_canny_keeps_ridges_alone() -> None:
    clip = torch.zeros(1, 3, 1, 12, 13)
    clip[..., 5:8] = 1
    magnitude = find_canny(clip)[0, 0, 0]
    inner = magnitude[2:-2] > 0.1  # outside the picture is 0: its border pixels are ridges
    assert inner.sum(1).unique().tolist() == [2]
    strong = find_canny(clip.flip(4)).flip(4)[0, 0, 0]
    torch.testing.assert_close(strong, magnitude)


@pytest.mark.parametrize("case", [0, 1])
def test_canny_is_that_of_controlnet_plus_plus(case: int) -> None:
    """Their own class on the same picture: pixel for pixel, and its gradient along a direction."""
    picture = draw_picture(case)[:, :, None].requires_grad_()
    theirs, ours = RECORDED["canny"][case], find_canny(picture)
    assert len(theirs["magnitude"]) == ours.numel()
    torch.testing.assert_close(
        ours.flatten(), torch.tensor(theirs["magnitude"]), atol=1e-5, rtol=1e-5
    )
    (gradient,) = torch.autograd.grad(ours.square().sum(), picture)
    slope = float((gradient[:, :, 0] * draw_direction(picture[:, :, 0].shape)).sum())
    assert slope == pytest.approx(theirs["slope"], rel=1e-5, abs=1e-5)


def test_a_blur_keeps_a_flat_picture_and_is_the_same_picture_at_any_size() -> None:
    flat = torch.full((1, 3, 1, 10, 9), 0.3)
    torch.testing.assert_close(blur_luminance(flat), measure_luminance(flat))
    small = torch.zeros(1, 3, 1, 64, 64)
    small[..., 32:] = 1
    large = small.repeat_interleave(2, 3).repeat_interleave(2, 4)
    coarse = torch.nn.functional.avg_pool2d(blur_luminance(large, 1 / 16)[:, :, 0], 2)
    assert (coarse - blur_luminance(small, 1 / 16)[:, :, 0]).abs().max() < 0.02


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 21), width=st.integers(1, 21), blocks=st.integers(1, 24))
def test_colour_blocks_keep_the_mean_and_are_the_same_done_twice(
    height: int, width: int, blocks: int
) -> None:
    clip = draw(1, 3, 1, height, width)
    averaged = average_colours(clip, blocks)
    torch.testing.assert_close(averaged.mean((3, 4)), clip.mean((3, 4)), atol=1e-5, rtol=0)
    torch.testing.assert_close(average_colours(averaged, blocks), averaged, atol=1e-5, rtol=0)
    if blocks >= min(height, width):
        torch.testing.assert_close(averaged, clip)


def test_options_without_meaning_are_refused() -> None:
    clip = draw(1, 3, 1, 8, 8)
    with pytest.raises(ValueError, match="share must be above 0"):
        blur_luminance(clip, 0.0)
    with pytest.raises(ValueError, match="blocks must be 1 or more"):
        average_colours(clip, 0)
    with pytest.raises(ValueError, match="too small"):
        find_canny(draw(1, 3, 1, 2, 8))
