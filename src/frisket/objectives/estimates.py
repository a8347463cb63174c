"""What a prediction says the clean latents are, whatever the model was taught to predict."""

import torch

from frisket.objectives.base import Objective
from frisket.shapes import Latents, PerSample

MOST = 1e4  # times that an error of the prediction may grow: beyond, it says nothing of x_0


def estimate_clean(
    objective: Objective, noisy: Latents, prediction: Latents, t: PerSample
) -> Latents:
    """The x_0 under which `noisy` has the target `prediction`; float32, differentiable in both.

    Every objective is linear in data and noise: x_t = a x_0 + s n, target = b x_0 + c n, so that
    x_0 = (c x_t - s target) / (a c - s b). The four numbers are read off the objective itself: it
    corrupts ones without noise, and noise of ones without data. Of epsilon (b = 0, c = 1) that is
    (x_t - s e) / a (Ho et al. 2020, eq. 15), of v a x_t - s v (Salimans & Ho 2022), of a flow
    x_t - t v, of EDM the prediction itself. ValueError where a noise level leaves nothing to tell:
    epsilon at pure noise.
    """
    ones = torch.ones(len(t), 1, 1, 1, 1, device=noisy.device)
    zeros = torch.zeros_like(ones)
    signal, of_signal = objective.corrupt(ones, zeros, t)
    sigma, of_noise = objective.corrupt(zeros, ones, t)
    divisor = signal * of_noise - sigma * of_signal
    by_noisy, by_prediction = of_noise / divisor, sigma / divisor
    if not bool(((by_noisy.abs() < MOST) & (by_prediction.abs() < MOST)).all()):
        raise ValueError(
            f"at the noise levels {t.tolist()} what {type(objective).__name__} predicts says"
            " nothing about the picture; look at lower ones"
        )
    return by_noisy * noisy.float() - by_prediction * prediction.float()
