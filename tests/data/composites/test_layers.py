"""Latents laid over latents: what stays bit for bit, and that coverage is what is visible."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frisket.data.background_swap import composite
from frisket.data.composites.layers import cover_latents, lay_latents, limit_to, shift_cells
from frisket.families.models.pocket.family import PocketVae
from frisket.grid import LatentGrid
from frisket.masks.coverage import to_latent


def random(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def to_clip(frames: Tensor) -> Tensor:
    return frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("seed", range(3))
def test_whole_cells_are_kept_bit_for_bit(seed: int, dtype: torch.dtype) -> None:
    clip, ground = (random(seed + n, 4, 2, 6, 5).sub(0.5).to(dtype) for n in (0, 10))
    keep = random(seed + 20, 1, 2, 6, 5).mul(3).sub(1).clamp(0, 1)
    laid = lay_latents(ground, clip, keep)
    assert laid.dtype == dtype
    for value, source in ((1, clip), (0, ground)):
        cells = (keep == value).expand_as(clip)
        assert cells.any()
        assert torch.equal(laid[cells], source[cells])


@pytest.mark.parametrize("frames", [1, 9])
@pytest.mark.parametrize("temporal", [1, 4])
def test_cells_kept_whole_are_the_pixel_swap_exactly(frames: int, temporal: int) -> None:
    grid, vae = LatentGrid(12 * temporal, 2, temporal), PocketVae(temporal)
    generator = torch.Generator().manual_seed(frames)
    clip, ground = (
        torch.randint(0, 256, (frames, 16, 12, 3), dtype=torch.uint8, generator=generator)
        for _ in range(2)
    )
    cells = (random(3, 8, 6) > 0.5).float()  # the same cells in all frames
    keep = cells.repeat_interleave(2, 0).repeat_interleave(2, 1).expand(frames, -1, -1)
    in_pixels = vae.encode(to_clip(composite(clip, keep, ground)))[0]
    latents = (vae.encode(to_clip(frames_))[0] for frames_ in (ground, clip))
    assert torch.equal(lay_latents(*latents, to_latent(keep[None].contiguous(), grid)), in_pixels)


def test_shapes_that_differ_are_refused() -> None:
    clip = random(0, 4, 1, 6, 5)
    with pytest.raises(ValueError, match=r"\(4, 1, 6, 5\) over \(4, 1, 6, 6\)"):
        lay_latents(random(0, 4, 1, 6, 6), clip, random(0, 1, 1, 6, 5))
    with pytest.raises(ValueError, match="same f h w"):
        lay_latents(clip, clip, random(0, 1, 1, 6, 6))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), down=st.integers(-5, 5), right=st.integers(-5, 5))
def test_coverage_after_a_layer_is_what_is_visible_and_sums_to_one_at_most(
    seed: int, down: int, right: int
) -> None:
    keep = random(seed, 1, 1, 4, 4).mul(2).sub(0.5).clamp(0, 1)
    below, above = (limit_to(random(seed + n, 3, 1, 4, 4), torch.ones(1, 1, 4, 4)) for n in (1, 2))
    keep, above = shift_cells(keep, down, right), shift_cells(above, down, right)
    covered = cover_latents(below, above, keep)
    assert (covered >= 0).all()
    assert (covered.sum(0) <= 1 + 1e-6).all()
    hidden = (keep == 1).expand_as(below)
    assert (covered[hidden] <= above[hidden] + 1e-6).all()
    free = (keep == 0).expand_as(below)
    assert torch.equal(covered[free], below[free])


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, 2), (-2, 1), (3, -3), (4, 0), (0, -9)])
def test_shifting_moves_whole_cells(down: int, right: int) -> None:
    cells = random(0, 2, 1, 4, 4) + 1
    moved = shift_cells(cells, down, right)
    for row in range(4):
        for column in range(4):
            source = (row - down, column - right)
            inside = all(0 <= number < 4 for number in source)
            expected = cells[:, :, source[0], source[1]] if inside else torch.zeros(2, 1)
            assert torch.equal(moved[:, :, row, column], expected)
