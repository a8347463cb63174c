"""Epsilon and v: the levels, targets and weights of diffusers, to the last digits."""

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from frisket.objectives.base import Objective
from frisket.objectives.epsilon import Epsilon, PredictionKind, timestep
from frisket.objectives.timesteps import TimestepSampler

ALL = torch.arange(1000)
LEVELS = (ALL + 1) / 1000
KINDS: list[tuple[PredictionKind, bool]] = [("epsilon", False), ("v", False), ("v", True)]


def stock(*, zero: bool = False) -> DDPMScheduler:
    return DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        rescale_betas_zero_snr=zero,
    )


def pair(count: int) -> tuple[Tensor, Tensor]:
    clean, noise = torch.randn(2, count, 4, 1, 2, 3, generator=Generator().manual_seed(0))
    return clean, noise


@pytest.mark.parametrize(("prediction", "zero"), KINDS)
def test_noisy_latents_and_targets_are_those_of_diffusers(
    prediction: PredictionKind, zero: bool
) -> None:
    clean, noise = pair(1000)
    noisy, target = Epsilon(prediction, zero_terminal_snr=zero).corrupt(clean, noise, LEVELS)
    theirs = stock(zero=zero)
    torch.testing.assert_close(noisy, theirs.add_noise(clean, noise, ALL), atol=1e-6, rtol=1e-6)
    wanted = noise if prediction == "epsilon" else theirs.get_velocity(clean, noise, ALL)
    torch.testing.assert_close(target, wanted, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
@pytest.mark.parametrize(("prediction", "zero"), KINDS)
def test_min_snr_weights_are_those_of_diffusers_training_scripts(
    prediction: PredictionKind, zero: bool, gamma: float
) -> None:
    snr = compute_snr(stock(zero=zero), ALL)
    capped = snr.clamp(max=gamma)
    wanted = capped / snr if prediction == "epsilon" else capped / (snr + 1)
    ours = Epsilon(prediction, min_snr=gamma, zero_terminal_snr=zero).weight(LEVELS)
    torch.testing.assert_close(ours, wanted, atol=1e-6, rtol=2e-6)


def test_without_min_snr_every_level_counts_alike() -> None:
    for prediction, zero in KINDS:
        weights = Epsilon(prediction, zero_terminal_snr=zero).weight(LEVELS)
        assert torch.equal(weights, torch.ones(1000))


def test_every_level_is_a_t_and_comes_back_from_it() -> None:
    assert torch.equal(timestep(LEVELS), ALL)
    assert torch.equal(timestep(torch.tensor([1e-6, 0.0014, 0.0016, 1.0])), ALL[[0, 0, 1, 999]])


def test_draws_are_levels_each_as_often() -> None:
    t = Epsilon().sample_t(200_000, Generator().manual_seed(0))
    assert t.dtype == torch.float32
    assert torch.isin(t, LEVELS).all()
    counts = torch.bincount(timestep(t), minlength=1000)
    assert counts.min() > 120
    assert counts.max() < 290


@given(
    low=st.floats(0, 0.9),
    width=st.floats(0.01, 1),
    shift=st.floats(0.2, 6),
    seed=st.integers(0, 2**31),
)
def test_a_samplers_draws_are_rounded_up_to_levels(
    low: float, width: float, shift: float, seed: int
) -> None:
    sampler = TimestepSampler("uniform", shift=shift, low=low, high=min(1.0, low + width))
    drawn = sampler(64, Generator().manual_seed(seed))
    t = Epsilon(timesteps=sampler).sample_t(64, Generator().manual_seed(seed))
    assert torch.isin(t, LEVELS).all()
    assert (t >= drawn - 2e-6).all()
    assert (t - drawn <= 1e-3 + 1e-6).all()


def test_a_sampler_that_is_on_a_level_stays_on_it() -> None:
    class Fixed(TimestepSampler):
        def __call__(self, count: int, generator: Generator, cells: object = None) -> Tensor:
            return LEVELS.clone()

    assert torch.equal(Epsilon(timesteps=Fixed()).sample_t(1000, Generator()), LEVELS)


def test_zero_terminal_snr_ends_in_noise_and_v_is_then_minus_the_picture() -> None:
    clean, noise = pair(2)
    zero = Epsilon("v", zero_terminal_snr=True)
    noisy, target = zero.corrupt(clean, noise, torch.ones(2))
    assert torch.equal(noisy, noise)
    assert torch.equal(target, -clean)
    left, _ = Epsilon("v").corrupt(clean, noise, torch.ones(2))
    torch.testing.assert_close(left, 0.0682 * clean + 0.99767 * noise, atol=1e-3, rtol=0)


def test_half_precision_stays_half_precision() -> None:
    clean, noise = (value.bfloat16() for value in pair(3))
    noisy, target = Epsilon("v").corrupt(clean, noise, torch.full((3,), 0.3))
    assert noisy.dtype == target.dtype == torch.bfloat16


def test_epsilon_keeps_the_contract() -> None:
    objective: Objective = Epsilon()
    assert isinstance(objective, Objective)
    assert objective.sample_t(5, Generator().manual_seed(0)).shape == (5,)


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(ValueError, match="zero terminal SNR is for v models"):
        Epsilon(zero_terminal_snr=True)
    with pytest.raises(ValueError, match=r"min_snr must be >= 0 .*got -1\.0"):
        Epsilon(min_snr=-1.0)
