"""How much each noise level counts in the loss."""

import math
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor

from frisket.objectives.kinds import LevelWeighting
from frisket.shapes import PerSample

# By t and weight, straight lines between: measured on Flex.1-alpha by ai-toolkit's author, whose
# timestep_type = "weighted" multiplies the loss by it (1000 numbers there, met here to 0.5 %).
FLEX = (
    (0.001, 0.4473),
    (0.002, 0.4454),
    (0.011, 0.4524),
    (0.019, 0.4721),
    (0.053, 0.5937),
    (0.076, 0.6690),
    (0.097, 0.7122),
    (0.12, 0.7311),
    (0.232, 0.7137),
    (0.295, 0.7287),
    (0.369, 0.7769),
    (0.45, 0.8596),
    (0.548, 0.9970),
    (0.675, 1.2178),
    (0.82, 1.4733),
    (0.868, 1.5210),
    (0.908, 1.4996),
    (0.93, 1.4601),
    (0.94, 1.4132),
    (0.957, 1.3483),
    (0.972, 1.2426),
    (0.978, 1.1867),
    (0.979, 1.1896),
    (0.982, 1.1438),
    (0.983, 1.1559),
    (0.986, 1.1016),
    (0.987, 1.1149),
    (0.99, 1.0429),
    (0.991, 1.0393),
    (0.994, 0.9692),
    (0.995, 0.9622),
    (0.999, 0.9098),
    (1, 0.9057),
)
CEILING = 1000.0  # of the signal to noise ratio, in debiased estimation and noise_like


def weight_flow(kind: LevelWeighting, t: PerSample) -> PerSample:
    """The weight of noise levels of a flow; mean 1 over uniform t but for sigma and sigma_sqrt.

    sigma_sqrt: t^-2, cosmap: 2 / (pi (1 - 2t + 2t^2)) (Esser et al. 2024, section 3.1). sigma: t
    (OneTrainer's SIGMA). bell and half_bell: exp(-2 (t - 1/2)^2) less its least value, half_bell
    held at its top below t = 1/2 (ai-toolkit's linear_timesteps and linear_timesteps2). flex: FLEX.
    """
    return WEIGHTS[kind](t)


def weight_diffusion(kind: LevelWeighting, snr: Tensor, *, v: bool) -> Tensor:
    """The weight of levels of an epsilon or v model, by their signal to noise ratio.

    debiased: 1 / sqrt(snr), for v 1 / (snr + 1) (Yu et al. 2023; kohya's debiased_estimation_loss).
    noise_like: snr / (snr + 1), what makes a v loss one of the noise (kohya's
    scale_v_pred_loss_like_noise_pred). Both take a ratio of 1000 at most, as kohya does.
    """
    capped = snr.clamp_max(CEILING)
    if kind == "debiased":
        return 1 / (capped + 1) if v else capped.rsqrt()
    if kind == "noise_like":
        return capped / (capped + 1)
    return torch.ones_like(snr)


def _bell(t: PerSample, *, half: bool) -> PerSample:
    top, mean = _measure_bell()
    shape = torch.exp(-2 * (t - 0.5) ** 2) - math.exp(-0.5)
    if half:
        shape = torch.where(t <= 0.5, torch.full_like(t, top), shape)
    return shape / mean


@cache
def _measure_bell() -> tuple[float, float]:
    """Height and mean of the bell."""
    least = math.exp(-0.5)
    return 1 - least, math.sqrt(math.pi / 2) * math.erf(1 / math.sqrt(2)) - least


def _flex(t: PerSample) -> PerSample:
    levels, weights = (torch.tensor(row, device=t.device) for row in zip(*FLEX, strict=True))
    right = torch.searchsorted(levels, t.float().contiguous()).clamp(1, len(levels) - 1)
    left = right - 1
    share = ((t - levels[left]) / (levels[right] - levels[left])).clamp(0, 1)
    return torch.lerp(weights[left], weights[right], share)


WEIGHTS: Mapping[str, Callable[[PerSample], PerSample]] = {
    "none": torch.ones_like,
    "sigma_sqrt": lambda t: t.clamp_min(1e-3) ** -2,
    "cosmap": lambda t: 2 / (torch.pi * (1 - 2 * t + 2 * t**2)),
    "sigma": lambda t: t,
    "bell": lambda t: _bell(t, half=False),
    "half_bell": lambda t: _bell(t, half=True),
    "flex": _flex,
}
DIFFUSION = ("debiased", "noise_like")  # of epsilon and v models; the rest is for flows
