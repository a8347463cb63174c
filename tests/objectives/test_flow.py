"""Rectified flow: the identities that tie clean, noise, noisy and target together."""

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_loss_weighting_for_sd3
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from frisket.objectives.base import Objective
from frisket.objectives.flow import Flow, LevelWeighting
from frisket.objectives.timesteps import TimestepSampler


def pair(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    made = Generator().manual_seed(seed)
    clean, noise = torch.randn(2, 3, 4, 2, 6, 5, generator=made).to(dtype)
    return clean, noise


@given(seed=st.integers(0, 999), levels=st.lists(st.floats(1e-3, 1), min_size=3, max_size=3))
def test_noisy_minus_t_times_target_is_clean_and_the_rest_noise(
    seed: int, levels: list[float]
) -> None:
    clean, noise = pair(seed)
    t = torch.tensor(levels)
    noisy, target = Flow().corrupt(clean, noise, t)
    level = t.view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(noisy - level * target, clean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(noisy + (1 - level) * target, noise, atol=1e-5, rtol=1e-5)


def test_pure_noise_is_the_noise_and_each_sample_has_its_own_level() -> None:
    clean, noise = pair()
    noisy, target = Flow().corrupt(clean, noise, torch.tensor([1.0, 0.5, 0.25]))
    assert torch.equal(noisy[0], noise[0])
    torch.testing.assert_close(noisy[1], (clean[1] + noise[1]) / 2)
    torch.testing.assert_close(noisy[2], 0.75 * clean[2] + 0.25 * noise[2])
    assert torch.equal(target, noise - clean)


def test_noisy_latents_are_those_of_diffusers() -> None:
    clean, noise = pair()
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    chosen = scheduler.timesteps[[10, 400, 900]]
    theirs = scheduler.scale_noise(clean, chosen, noise)
    ours, _ = Flow().corrupt(clean, noise, chosen / 1000)
    torch.testing.assert_close(ours, theirs)


def test_an_euler_step_along_the_target_walks_from_noise_to_data() -> None:
    clean, noise = pair()
    noisy, target = Flow().corrupt(clean, noise, torch.ones(3))
    for _ in range(4):
        noisy = noisy - 0.25 * target
    torch.testing.assert_close(noisy, clean, atol=1e-5, rtol=1e-5)


def test_half_precision_stays_half_precision() -> None:
    clean, noise = pair(dtype=torch.bfloat16)
    noisy, target = Flow().corrupt(clean, noise, torch.full((3,), 0.3))
    assert noisy.dtype == target.dtype == torch.bfloat16


@pytest.mark.parametrize("scheme", ["none", "sigma_sqrt", "cosmap"])
def test_weights_are_those_of_diffusers(scheme: LevelWeighting) -> None:
    t = torch.linspace(0.01, 1, 50)
    theirs = compute_loss_weighting_for_sd3(scheme, t)
    torch.testing.assert_close(Flow(weighting=scheme).weight(t), theirs)


def test_weights_stay_finite_at_the_smallest_t() -> None:
    smallest = torch.tensor([1e-3, 0.0])
    assert torch.isfinite(Flow(weighting="sigma_sqrt").weight(smallest)).all()


def test_cosmap_weights_have_mean_one() -> None:
    t = (torch.arange(10_000) + 0.5) / 10_000
    assert Flow(weighting="cosmap").weight(t).mean().item() == pytest.approx(1, abs=1e-4)


def test_flow_keeps_the_contract_and_draws_from_its_density() -> None:
    objective: Objective = Flow(TimestepSampler("uniform", low=0.9))
    drawn = objective.sample_t(5, Generator().manual_seed(0))
    assert drawn.shape == (5,)
    assert drawn.min() >= 0.9
