"""Masks drawn anew, against what OneTrainer's and ai-toolkit's own code gave."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.masks.ellipses import blurred_mask, marks, shrunk_mask

from frisket.masks.drawn import blur, cut_to_disc, random_point

PEERS = json.loads(Path(__file__).with_name("peer_mask_draws.json").read_text(encoding="utf-8"))


def test_a_disc_is_onetrainers():
    plane = shrunk_mask()[None]
    for row in PEERS["shrunk"]["draws"]:
        made = cut_to_disc([plane], row["share"], tuple(row["point"]))[0]
        # It computes radii in single precision: a pixel on the rim may fall either way.
        assert abs(int((made > 0).sum()) - row["pixels"]) <= 2
        assert float(made.sum()) == pytest.approx(row["sum"], abs=2)


def test_discs_are_drawn_as_onetrainer_draws_them():
    plane = shrunk_mask()[None]
    shares = np.random.RandomState(0).uniform(0.2, 1, 1500)
    areas = [
        float(cut_to_disc([plane], share, random_point([plane], seed))[0].sum() / plane.sum())
        for seed, share in enumerate(shares)
    ]
    found = np.quantile(areas, [0.1, 0.5, 0.9])
    np.testing.assert_allclose(found, PEERS["shrunk"]["quantiles"], atol=0.03)


@pytest.mark.parametrize("row", PEERS["blurred"], ids=lambda row: str(row["place"]))
def test_a_blur_is_ai_toolkits(row):
    plane = blurred_mask()[None]
    made = blur(plane, int(min(plane.shape[1:]) * row["place"] * 0.005))
    grey = (made[0] * 255).round().numpy().astype(np.uint8)
    np.testing.assert_allclose(marks(grey), row["marks"], atol=1)


def test_one_disc_cuts_every_plane_and_frame_at_the_same_place():
    face = torch.zeros(3, 32, 48)
    face[:, 8:16, 8:40] = 1
    body = torch.zeros(1, 64, 96).expand(3, -1, -1).clone()
    body[:, 16:60, 16:80] = 0.5
    point = random_point([face, body], 4)
    cut = cut_to_disc([face, body], 0.5, point)
    assert [each.shape for each in cut] == [face.shape, body.shape]
    small, large = (each[0] > 0 for each in cut)
    both = torch.nn.functional.interpolate(large[None, None].float(), size=(32, 48))[0, 0] > 0
    assert (small & ~both & (body[0, ::2, ::2] > 0)).sum() <= 4
    assert all(
        0 < float(one.sum()) <= float(other.sum())
        for one, other in zip(cut, (face, body), strict=True)
    )
    assert torch.equal(cut[0][0], cut[0][2])
    whole = cut_to_disc([face, body], 1.0, point)
    assert torch.equal(whole[0], face)


def test_a_mask_without_a_region_stays_without():
    plane = torch.zeros(1, 8, 8)
    assert not cut_to_disc([plane], 0.2, random_point([plane], 0))[0].any()
    assert blur(plane, 0) is plane


def test_a_still_mask_of_a_clip_is_changed_once():
    plane = shrunk_mask()[None].expand(9, -1, -1)
    for made in (blur(plane, 2), cut_to_disc([plane], 0.4, (30, 50))[0]):
        assert made.shape == plane.shape
        assert made.stride(0) == 0
