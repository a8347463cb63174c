"""The clean latents that a prediction stands for, in every parameterisation."""

import pytest
import torch
from diffusers import DDIMScheduler

from frisket.objectives.base import Objective
from frisket.objectives.edm import Edm
from frisket.objectives.epsilon import Epsilon
from frisket.objectives.estimates import estimate_clean
from frisket.objectives.flow import Flow

OBJECTIVES = {
    "epsilon": Epsilon(),
    "v": Epsilon("v"),
    "v, zero terminal": Epsilon("v", zero_terminal_snr=True),
    "flow": Flow(),
    "edm": Edm(),
}


def draw(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, 2, 5, 4, generator=generator)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_the_true_target_gives_back_the_clean_latents(objective: Objective) -> None:
    clean, noise, t = draw(0), draw(1), torch.tensor([1e-5, 0.2, 0.6, 1.0])
    noisy, target = objective.corrupt(clean, noise, t)
    estimate = estimate_clean(objective, noisy, target, t)
    torch.testing.assert_close(estimate, clean, rtol=1e-4, atol=2e-5)


def test_the_formulas_of_the_papers() -> None:
    clean, noise, t = draw(0), draw(1), torch.tensor([0.1, 0.3, 0.5, 0.8])
    prediction = draw(2)
    level = t.view(-1, 1, 1, 1, 1)
    noisy, _ = Flow().corrupt(clean, noise, t)
    expected = noisy - level * prediction
    torch.testing.assert_close(estimate_clean(Flow(), noisy, prediction, t), expected)
    signal = Epsilon().corrupt(torch.ones(4, 1, 1, 1, 1), torch.zeros(4, 1, 1, 1, 1), t)[0]
    sigma = (1 - signal**2).sqrt()
    noisy, _ = Epsilon().corrupt(clean, noise, t)
    ours = estimate_clean(Epsilon(), noisy, prediction, t)
    torch.testing.assert_close(ours, (noisy - sigma * prediction) / signal, rtol=1e-4, atol=1e-5)
    ours = estimate_clean(Epsilon("v"), noisy, prediction, t)
    torch.testing.assert_close(ours, signal * noisy - sigma * prediction, rtol=1e-4, atol=1e-5)
    ours = estimate_clean(Edm(), noisy, prediction, t)
    torch.testing.assert_close(ours, prediction, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v"])
def test_diffusers_estimates_the_same(kind: str) -> None:
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="epsilon" if kind == "epsilon" else "v_prediction",
    )
    scheduler.set_timesteps(1000)
    noisy, prediction = draw(0), draw(1)
    for level in (0, 199, 349, 600):
        t = torch.full((4,), (level + 1) / 1000)
        ours = estimate_clean(Epsilon(kind), noisy, prediction, t)
        theirs = scheduler.step(prediction, level, noisy).pred_original_sample
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_sample_knows_no_other_and_gradients_reach_the_prediction() -> None:
    t = torch.tensor([0.1, 0.3, 0.5, 0.8])
    prediction = draw(2).requires_grad_()
    estimate = estimate_clean(Epsilon(), draw(0), prediction, t)
    (gradient,) = torch.autograd.grad(estimate[1].sum(), prediction)
    assert gradient[1].all()
    assert not gradient[[0, 2, 3]].any()


def test_a_level_that_says_nothing_is_refused() -> None:
    class Blind(Flow):
        def corrupt(self, clean, noise, t):  # type: ignore[no-untyped-def]
            return noise, noise

    with pytest.raises(ValueError, match="says nothing about the picture"):
        estimate_clean(Blind(), draw(0), draw(1), torch.ones(4))
