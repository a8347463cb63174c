"""Densities by name, bounds that cut, parts and turns: what a sampler with them draws."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from frisket.objectives.shift import LAWS, SizeShift, pull, push
from frisket.objectives.timesteps import SMALLEST, TimestepSampler

COUNT = 40_000
RANKS = (0.05, 0.25, 0.5, 0.75, 0.95)
SHAPES: list[dict[str, Any]] = [
    {"density": "uniform"},
    {"density": "logit_normal", "mean": -0.4, "std": 0.8},
    {"density": "mode"},
    {"density": "cosmap"},
    {"density": "beta", "alpha": 0.6, "beta": 1.7},
    {"density": "histogram", "histogram": (1.0, 0.0, 3.0, 2.0)},
    {"density": "logit_normal", "emphasis": "style"},
    {"density": "logit_normal", "parts": ((0.3, -2.0, 0.5),)},
]


def draw(count: int = COUNT, seed: int = 0, **settings: Any) -> Tensor:
    return TimestepSampler(**settings)(count, Generator().manual_seed(seed))


def quantiles(t: Tensor) -> list[float]:
    return torch.quantile(t.double(), torch.tensor(RANKS, dtype=torch.float64)).tolist()


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 2.0), (0.5, 3.0), (4.0, 1.0), (1.0, 0.7)])
def test_beta_is_the_beta_distribution_of_torch(alpha: float, beta: float) -> None:
    torch.manual_seed(3)
    public = torch.distributions.Beta(alpha, beta).sample((COUNT,)).clamp(SMALLEST, 1)
    ours = draw(density="beta", alpha=alpha, beta=beta)
    assert quantiles(ours) == pytest.approx(quantiles(public), abs=0.012)


def test_cosmap_is_its_density() -> None:
    t = draw(density="cosmap")
    for low, high in ((0.0, 0.2), (0.4, 0.6), (0.7, 1.0)):
        share = (math.atan(2 * high - 1) - math.atan(2 * low - 1)) * 2 / math.pi
        assert ((t > low) & (t <= high)).float().mean().item() == pytest.approx(share, abs=0.01)


def test_a_histogram_draws_its_parts_by_their_weights() -> None:
    t = draw(density="histogram", histogram=(1.0, 0.0, 3.0))
    shares = torch.histc(t, 3, 0, 1) / COUNT
    assert shares.tolist() == pytest.approx([0.25, 0.0, 0.75], abs=0.01)


def test_levels_are_drawn_as_often_as_they_are_listed() -> None:
    t = draw(density="levels", levels=(1.0, 1.0, 1.0, 0.25))
    assert sorted(t.unique().tolist()) == [0.25, 1.0]
    assert (t == 1).float().mean().item() == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("shift", [1.0, 3.0, 0.4])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_cut_draws_what_of_the_whole_density_lies_in_the_range(
    shape: dict[str, Any], shift: float
) -> None:
    """As drawing on until enough lie within; an emphasis goes over the ranks of the range."""
    low, high = 0.35, 0.8
    cut = draw(**shape, shift=shift, low=low, high=high, bounds="cut")
    assert low <= cut.min()
    assert cut.max() <= high
    if "emphasis" in shape:
        return
    whole = draw(400_000, 1, **shape, shift=shift)
    kept = whole[(whole >= low) & (whole <= high)]
    assert quantiles(cut) == pytest.approx(quantiles(kept), abs=0.012)


@pytest.mark.parametrize("shift", [3.0, 0.5])
def test_a_squeeze_may_come_before_the_shift(shift: float) -> None:
    drawn = draw(density="uniform", shift=shift, low=0.2, high=0.6, bounds="squeeze_before_shift")
    wanted = [push(0.2 + 0.4 * rank, shift) for rank in RANKS]
    assert quantiles(drawn) == pytest.approx(wanted, abs=0.01)


@given(t=st.floats(0.001, 1), shift=st.floats(0.1, 20))
def test_pull_undoes_push(t: float, shift: float) -> None:
    assert pull(push(t, shift), shift) == pytest.approx(t, abs=1e-9)


def test_content_draws_more_noise_and_style_less_by_a_cube() -> None:
    content, style = (draw(density="uniform", emphasis=kind) for kind in ("content", "style"))
    assert quantiles(style) == pytest.approx([rank**3 for rank in RANKS], abs=0.012)
    assert quantiles(content) == pytest.approx([1 - (1 - rank) ** 3 for rank in RANKS], abs=0.012)


def test_parts_come_from_curves_of_their_own_unshifted() -> None:
    t = draw(density="logit_normal", shift=1000.0, parts=((0.4, -6.0, 0.1),))
    assert (t < 0.01).float().mean().item() == pytest.approx(0.4, abs=0.01)
    assert (t > 0.9).float().mean().item() == pytest.approx(0.6, abs=0.01)


@pytest.mark.parametrize(("even", "share"), [(False, 0.026), (True, 0.5)])
def test_the_experts_of_a_model_may_be_trained_as_often_as_each_other(
    even: bool, share: float
) -> None:
    """By noise a rare range gets its share of the batches, evenly half; each batch keeps to one."""
    ranges = ((0.0, 0.875), (0.875, 1.0))
    sampler = TimestepSampler(ranges=ranges, even=even)
    generator = Generator().manual_seed(0)
    batches = [sampler(4, generator) for _ in range(400)]
    high = [bool((batch >= 0.875).all()) for batch in batches]
    assert all(bool((b >= 0.875).all()) or bool((b < 0.875).all()) for b in batches)
    assert sum(high) / len(high) == pytest.approx(share, abs=0.05)


def test_a_law_by_name_counts_the_cells_of_one_frame() -> None:
    still, clip = (1, 64, 64), (9, 64, 64)
    assert LAWS["flux_shift"].at(clip) == LAWS["flux_shift"].at(still) == SizeShift().at(still)
    assert LAWS["flux_shift_video"].at(clip) > LAWS["flux_shift"].at(clip)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"density": "histogram"}, "histogram needs a list of weights"),
        ({"density": "histogram", "histogram": (0.0, 0.0)}, "one at least above"),
        ({"density": "levels", "levels": (0.5, 1.5)}, "above 0 and up to 1"),
        ({"levels": (0.5,)}, 'levels is for density = "levels"'),
        ({"density": "beta", "alpha": 0.0}, "alpha and beta must be > 0"),
        ({"density": "mode", "scale": 3.0, "bounds": "cut"}, "a scale of -1 to 1.75"),
        ({"parts": ((0.7, 0.0, 1.0), (0.7, 0.0, 1.0))}, "the shares sum up to 1"),
        ({"low": 0.99, "std": 0.01, "bounds": "cut"}, "hardly a draw falls into"),
    ],
)
def test_what_cannot_be_drawn_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        draw(4, **settings)
