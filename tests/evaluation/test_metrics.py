"""The metrics obey the laws their names promise."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.evaluation.metrics import drift, region_loss

seeds = st.integers(0, 10_000)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def disjoint(draw: torch.Generator, b: int = 2, k: int = 2) -> torch.Tensor:
    """Random coverage of k regions whose sum stays within 1."""
    return torch.rand(b, k + 1, 2, 4, 5, generator=draw).softmax(1)[:, :k]


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_regions_and_outside_add_up_to_the_plain_mean(seed: int) -> None:
    draw = generator(seed)
    error, coverage = torch.rand(2, 3, 2, 4, 5, generator=draw), disjoint(draw)
    loss = region_loss(error, coverage, ["face", "hair"])
    area = {"face": coverage[:, 0].mean(), "hair": coverage[:, 1].mean()}
    area["outside"] = 1 - area["face"] - area["hair"]
    assert sum(loss[name] * float(area[name]) for name in loss) == pytest.approx(
        float(error.mean()), rel=1e-4
    )


@given(seeds, st.floats(0.1, 5))
@settings(max_examples=20, deadline=None)
def test_error_elsewhere_never_reaches_a_region(seed: int, extra: float) -> None:
    draw = generator(seed)
    error = torch.rand(1, 3, 1, 4, 4, generator=draw)
    coverage = torch.zeros(1, 1, 1, 4, 4)
    coverage[..., :2] = 1
    before = region_loss(error, coverage, ["subject"])
    error[..., 2:] += extra
    after = region_loss(error, coverage, ["subject"])
    assert after["subject"] == before["subject"]
    assert after["outside"] == pytest.approx(before["outside"] + extra, rel=1e-4)


def test_a_region_without_area_is_left_out() -> None:
    error = torch.ones(1, 3, 1, 4, 4)
    coverage = torch.zeros(1, 2, 1, 4, 4)
    coverage[:, 0] = 1
    assert region_loss(error, coverage, ["subject", "hair"]) == {"subject": 1.0}


def test_half_precision_is_reduced_in_float32() -> None:
    error = torch.full((1, 16, 1, 64, 64), 0.1, dtype=torch.bfloat16)
    loss = region_loss(error, torch.ones(1, 1, 1, 64, 64), ["subject"])
    assert loss["subject"] == pytest.approx(0.1, rel=2e-3)


def test_names_must_fit_the_planes() -> None:
    error, coverage = torch.ones(1, 3, 1, 4, 4), torch.ones(1, 2, 1, 4, 4)
    with pytest.raises(ValueError, match=r"2 coverage planes but regions \['face'\]"):
        region_loss(error, coverage, ["face"])
    with pytest.raises(ValueError, match="no region may be named 'outside'"):
        region_loss(error, coverage, ["face", "outside"])


@given(seeds, st.floats(-3, 3))
@settings(max_examples=20, deadline=None)
def test_drift_is_the_squared_distance(seed: int, shift: float) -> None:
    base = torch.randn(2, 3, 1, 4, 4, generator=generator(seed))
    assert drift(base, base) == 0
    assert drift(base + shift, base) == pytest.approx(shift**2, abs=1e-4)
    assert drift(base, base + shift) == pytest.approx(drift(base + shift, base), rel=1e-4)
