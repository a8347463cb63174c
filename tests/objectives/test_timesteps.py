"""Densities of t against the formulas of Esser et al. 2024 and the public implementation."""

import math
from statistics import NormalDist

import pytest
import torch
from diffusers.training_utils import compute_density_for_timestep_sampling
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from frisket.objectives.timesteps import SMALLEST, Density, TimestepSampler

COUNT = 40_000
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def draw(sampler: TimestepSampler, count: int = COUNT, seed: int = 0) -> Tensor:
    return sampler(count, Generator().manual_seed(seed))


def quantiles(t: Tensor) -> list[float]:
    return torch.quantile(t.double(), torch.tensor(LEVELS, dtype=torch.float64)).tolist()


def mode(u: float, scale: float) -> float:
    """Esser et al. 2024, eq. 20; falls from 1 to 0."""
    return 1 - u - scale * (math.cos(math.pi / 2 * u) ** 2 - 1 + u)


def test_uniform_is_uniform() -> None:
    t = draw(TimestepSampler("uniform"))
    assert quantiles(t) == pytest.approx(LEVELS, abs=0.01)
    assert t.mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.5, 0.7), (1.2, 0.4)])
def test_logit_normal_is_a_squashed_gaussian(mean: float, std: float) -> None:
    t = draw(TimestepSampler("logit_normal", mean=mean, std=std))
    expected = [1 / (1 + math.exp(-NormalDist(mean, std).inv_cdf(q))) for q in LEVELS]
    assert quantiles(t) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("scale", [-0.9, 0.0, 1.29])
def test_mode_follows_its_formula(scale: float) -> None:
    t = draw(TimestepSampler("mode", scale=scale))
    assert quantiles(t) == pytest.approx([mode(1 - q, scale) for q in LEVELS], abs=0.012)
    if scale == 0:
        assert quantiles(t) == pytest.approx(LEVELS, abs=0.01)


@pytest.mark.parametrize("density", ["logit_normal", "mode"])
def test_draws_are_those_of_diffusers(density: Density) -> None:
    ours = draw(TimestepSampler(density, mean=0.2, std=0.8), 100)
    theirs = compute_density_for_timestep_sampling(
        density, 100, 0.2, 0.8, 1.29, generator=Generator().manual_seed(0)
    )
    torch.testing.assert_close(ours, theirs.clamp(SMALLEST, 1))


@pytest.mark.parametrize("shift", [0.5, 3.0, 8.0])
def test_shift_moves_every_draw_by_equation_23(shift: float) -> None:
    plain, shifted = draw(TimestepSampler("uniform")), draw(TimestepSampler("uniform", shift=shift))
    inside = (plain > 0.01) & (shifted > 0.01)
    moved = shift * plain / (1 + (shift - 1) * plain)
    torch.testing.assert_close(shifted[inside], moved[inside])
    assert bool((shifted.mean() > plain.mean()).item()) == (shift > 1)


def test_bounds_cut_the_range_and_keep_its_shape() -> None:
    """An expert of Wan 2.2 trains its own part only."""
    bounded = draw(TimestepSampler("uniform", low=0.6, high=0.9))
    assert bounded.min() >= 0.6
    assert bounded.max() <= 0.9
    assert quantiles(bounded) == pytest.approx([0.6 + 0.3 * q for q in LEVELS], abs=0.005)


@given(
    density=st.sampled_from(["uniform", "logit_normal", "mode"]),
    mean=st.floats(-3, 3),
    std=st.floats(0.05, 3),
    shift=st.floats(0.1, 12),
    low=st.floats(0, 0.9),
    width=st.floats(0.01, 1),
    seed=st.integers(0, 2**31),
)
def test_every_draw_lies_in_its_range_and_comes_back_with_its_seed(
    density: Density, mean: float, std: float, shift: float, low: float, width: float, seed: int
) -> None:
    high = min(1.0, low + width)
    sampler = TimestepSampler(density, mean=mean, std=std, shift=shift, low=low, high=high)
    t = draw(sampler, 64, seed)
    assert t.dtype == torch.float32
    assert t.min() >= max(low, SMALLEST) - 1e-6
    assert t.max() <= high + 1e-6
    assert torch.equal(t, draw(sampler, 64, seed))


def test_draws_take_nothing_from_the_global_generator() -> None:
    before = torch.get_rng_state()
    assert not torch.equal(draw(TimestepSampler(), 8, 1), draw(TimestepSampler(), 8, 2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 0.5, "high": 0.5}, r"low < high <= 1, got low=0\.5 high=0\.5"),
        ({"high": 1.5}, r"high=1\.5"),
        ({"low": -0.1}, r"low=-0\.1"),
        ({"shift": 0.0}, r"must be > 0, got 0\.0"),
        ({"std": -1.0}, r"must be > 0, got 1\.0 and -1\.0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TimestepSampler("uniform", **settings)  # type: ignore[arg-type]
