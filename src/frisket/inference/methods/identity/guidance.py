"""Decoupled guidance (FastFace, arXiv 2505.21144): identity and text each with a strength.

Predictions are of any kind: noise, v or a flow's velocity, b c and any axes after.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

# What the prediction in the middle was told; `dcg_type` 1, 2 and 3 of the authors' code.
GuidanceKind = Literal["text", "apart", "identity"]


def combine_decoupled(
    negative: Float[Tensor, "b ..."],
    middle: Float[Tensor, "b ..."],
    full: Float[Tensor, "b ..."],
    *,
    first: float,
    second: float,
    kind: GuidanceKind = "identity",
    renorm: bool = False,
    rescale: float = 0.0,
) -> Float[Tensor, "b ..."]:
    """One prediction from three of the same noisy picture.

    `negative` knows the negative prompt alone; `full` prompt and identity. `identity` (the
    paper's): `middle` has the identity with the negative prompt, `first` is the identity's strength
    and `second` the text's, negative + first (middle - negative) + second (full - middle). `text`:
    the same with the prompt alone in the middle. `apart`: `middle` is the prompt alone and `full`
    the identity with the negative prompt, both terms from `negative`. In the first two
    first = second is plain guidance by that number.

    `renorm` gives the second term the first one's norm, in each sample (theirs: in the whole batch
    at once, so that samples change each other; departure). `rescale` in [0, 1] draws the standard
    deviation of each sample to the mean of `middle` and `full`'s (arXiv 2305.08891, algorithm 2).
    """
    along = middle - negative
    across = full - (negative if kind == "apart" else middle)
    if renorm:
        length = measure_norm(across)
        across = across * (measure_norm(along) / length.clamp_min(1e-30))
    guided = negative + first * along + second * across
    if rescale == 0:
        return guided
    spreads = [measure_spread(part) for part in (middle, full, guided)]
    factor = (spreads[0] + spreads[1]) / (2 * spreads[2])
    return guided * (rescale * factor + (1 - rescale))


def differ_from_plain(
    negative: Float[Tensor, "b ..."],
    middle: Float[Tensor, "b ..."],
    full: Float[Tensor, "b ..."],
    *,
    first: float,
    second: float,
    strength: float,
) -> Float[Tensor, "b ..."]:
    """What `combine_decoupled` (but for `apart`, bare) adds to plain guidance by `strength`.

    (first - second) (middle - negative) + (second - strength) (full - negative): exactly 0 where
    all three are one number.
    """
    return (first - second) * (middle - negative) + (second - strength) * (full - negative)


def measure_norm(tensor: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """Of each sample, its axes kept as 1."""
    axes = tuple(range(1, tensor.ndim))
    return torch.linalg.vector_norm(tensor, dim=axes, keepdim=True)


def measure_spread(tensor: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """The standard deviation of each sample (unbiased), its axes kept as 1."""
    return tensor.std(tuple(range(1, tensor.ndim)), keepdim=True)


def compute_linear_fall(t: float) -> float:
    """From 1 at t = 0 down to 0 at t = 1."""
    return 1 - t


def compute_cosine_fall(t: float) -> float:
    """cos(pi t) + 1: from 2 at t = 0 to 0, as theirs."""
    return math.cos(math.pi * t) + 1


def compute_power_cosine(t: float, power: float) -> float:
    """(1 - cos(pi (1 - t)^power)) / 2."""
    return 0.5 * (1 - math.cos(math.pi * (1 - t) ** power))


def compute_rise_and_fall(t: float) -> float:
    """T up to a half, 1 - t above."""
    return 1 - t if t > 0.5 else t


Shape = Callable[[float], float]
SHAPES: Mapping[str, Shape] = {
    "constant": lambda _: 1.0,
    "linear": compute_linear_fall,
    "cosine": compute_cosine_fall,
    "cap": compute_rise_and_fall,
}


@dataclass(frozen=True, slots=True)
class GuidanceStrength:
    """A strength by noise level or by step.

    `values` one a step (ValueError of a step beyond them), or `peak` times a shape of t in [0, 1]
    (1 is pure noise), named as in `SHAPES`; `power` takes the power cosine instead. `inverse` turns
    t round, `least` is a floor.
    """

    peak: float = 1.0
    shape: str = "constant"
    power: float | None = None
    inverse: bool = False
    least: float | None = None
    values: Sequence[float] = ()

    def __post_init__(self) -> None:
        """ValueError for a shape that there is not."""
        if self.shape not in SHAPES:
            raise ValueError(f"no strength goes as {self.shape!r}: {', '.join(sorted(SHAPES))}")

    def check(self, steps: int) -> None:
        """ValueError where values do not reach for so many steps."""
        if self.values and steps > len(self.values):
            raise ValueError(
                f"strengths for {len(self.values)} steps, but {steps} are sampled: give one number"
                " for all, or as many as there are steps"
            )

    def at(self, step: int, t: float) -> float:
        """The strength at a step (from 0) and noise level."""
        if self.values:
            if step >= len(self.values):
                raise ValueError(
                    f"strengths for {len(self.values)} steps, but this is step {step + 1}: give as"
                    " many as there are steps"
                )
            return self.values[step]
        t = 1 - t if self.inverse else t
        if self.power is not None:
            part = compute_power_cosine(t, self.power)
        else:
            part = SHAPES[self.shape](t)
        strength = self.peak * part
        return strength if self.least is None else max(self.least, strength)
