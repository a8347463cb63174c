"""Defects of other trainers' mask paths, each by name: none of them may be ours."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from frisket.grid import LatentGrid
from frisket.losses.base import weighted_mean
from frisket.masks.coverage import to_latent
from frisket.masks.read import read
from frisket.masks.weights import RegionWeights
from frisket.media.frames import BadMedia, probe

WAN = LatentGrid(channels=16, spatial=8, temporal=4)


def test_nearest_sampling_drops_thin_regions() -> None:
    """ai-toolkit and diffusion-pipe shrink the mask 8 times by nearest neighbour."""
    earring = torch.zeros(1, 1, 64, 64)
    earring[..., 11:13] = 1
    assert not interpolate(earring, (8, 8), mode="nearest").any()
    cells = to_latent(earring, WAN)
    assert cells.sum() * 64 == earring.sum()
    assert (cells[..., 1] == 2 / 8).all()


def test_interpolating_over_time_mixes_frames_the_latent_never_saw() -> None:
    """AkaneTendo's fork resizes 33 mask frames to 9 by trilinear interpolation."""
    walks_in = torch.zeros(1, 33, 8, 8)
    walks_in[:, 1:5] = 1  # exactly the frames behind latent frame 1
    wrong = interpolate(walks_in[None], (9, 1, 1), mode="trilinear").flatten()
    assert wrong[0] > 0
    assert wrong[1] < 1
    assert to_latent(walks_in, WAN).flatten().tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0]


def test_the_red_channel_of_a_coloured_mask_is_not_the_mask(tmp_path: Path) -> None:
    """kohya, musubi's forks and diffusion-pipe read R and train with what happens to be in it."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, :2, 1] = 255  # a green region: all zero in R
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    with pytest.raises(BadMedia, match=r"mask\.png.*legend"):
        read(
            {"": tmp_path / "mask.png"},
            clip=probe(tmp_path / "mask.png"),
            alpha=False,
            picks=(0,),
            regions=("subject",),
        )


def test_an_all_black_mask_weighs_nothing_and_gives_no_nan() -> None:
    """Dividing by the mean of an empty mask gives NaN, which then spoils the whole adapter."""
    coverage = to_latent(torch.zeros(1, 5, 16, 16), WAN)[None]
    weights = RegionWeights(gamma=0.5)(coverage, torch.tensor([True]))
    assert not weights.any()
    error = torch.rand(1, 16, 2, 2, 2, requires_grad=True)
    loss = weighted_mean(error, weights)
    loss.sum().backward()
    assert loss.item() == 0
    assert error.grad is not None
    assert not error.grad.any()


def test_a_clip_without_a_mask_in_a_mixed_batch_teaches_everywhere() -> None:
    """A missing mask that is collated as zeros silently takes the clip out of the training."""
    coverage = torch.zeros(2, 1, 1, 4, 4)
    coverage[0, ..., 1] = 1
    weights = RegionWeights(floor=0.1)(coverage, torch.tensor([True, False]))
    assert weights[0].unique().tolist() == pytest.approx([0.1, 1])
    assert (weights[1] == 1).all()


def test_small_weights_survive_half_precision() -> None:
    """Weights in bf16 have 8 bits: a floor of 0.004 above 1 is lost, and so are close regions."""
    coverage = torch.tensor([0.5, 0.502]).bfloat16().float().view(2, 1, 1, 1, 1)
    table = RegionWeights({"subject": 1.0}, background=1.004)
    weights = table(coverage.bfloat16(), torch.ones(2, dtype=torch.bool)).flatten()
    torch.testing.assert_close(weights, 1.004 - 0.004 * coverage.flatten())
    assert (weights > 1).all()
