"""How often each noise level is trained: densities of t in (0, 1]."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from frisket.objectives.shift import Cells, SizeShift
from frisket.shapes import PerSample

Density = Literal["uniform", "logit_normal", "mode"]
TRIES = 200  # of 64 draws: an expert whose noise levels are rarer than that is a wrong setting
SMALLEST = 1e-3  # t = 0 is no noise: nothing to predict, and v-targets lose their meaning


@dataclass(frozen=True, slots=True)
class TimestepSampler:
    """Draws t; `shift` then pushes it towards noise, `low` and `high` bound it.

    uniform: U(0, 1). logit_normal: sigmoid(N(mean, std)) (Esser et al. 2024, eq. 19 with s = std).
    mode: Esser et al. 2024, eq. 20 with s = `scale`. shift: t <- s t / (1 + (s - 1) t) (eq. 23); a
    `SizeShift` takes s from the size of the latents that the draw is for.
    `low`/`high` cut the range that is drawn from (an expert of Wan 2.2 trains only its own part):
    a draw is mapped into [low, high] affinely after the shift.

    `ranges`, where given, are those of a model's experts: a batch keeps to one of them (the first
    draw says which, so that every expert is trained as often as its noise levels come up), and what
    falls into none is drawn again.
    """

    density: Density = "logit_normal"
    mean: float = 0.0
    std: float = 1.0
    scale: float = 1.29
    shift: float | SizeShift = 1.0
    low: float = 0.0
    high: float = 1.0
    ranges: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        """Refuse settings no draw could satisfy."""
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(
                f"timesteps: need 0 <= low < high <= 1, got low={self.low} high={self.high}"
            )
        fixed = 1.0 if isinstance(self.shift, SizeShift) else self.shift
        if fixed <= 0 or self.std <= 0:
            raise ValueError(f"timesteps: shift and std must be > 0, got {fixed} and {self.std}")

    def shift_at(self, cells: Cells | None) -> float:
        """The shift of latents of f x h x w cells; ValueError where it needs them and has none."""
        if not isinstance(self.shift, SizeShift):
            return self.shift
        if cells is None:
            raise ValueError(
                "timesteps: the shift follows the size of the latents: say how many cells (f h w)"
                " the draw is for, or set a number as timesteps.shift"
            )
        return self.shift.at(cells)

    def __call__(self, count: int, generator: Generator, cells: Cells | None = None) -> PerSample:
        """`count` values of t in [1e-3, 1] for latents of f x h x w `cells`, float32 on the CPU."""
        shift = self.shift_at(cells)
        if not self.ranges:
            return self._draw(count, generator, shift)
        taken: Tensor | None = None
        within = self.ranges
        for _ in range(TRIES):
            drawn = self._draw(max(count, 64), generator, shift)
            if taken is None:
                first = next((t for t in drawn.tolist() if _range_of(t, within)), None)
                if first is None:
                    continue
                within = (_range_of(first, within) or within[0],)
                taken = drawn[:0]
            fits = torch.tensor([_range_of(t, within) is not None for t in drawn.tolist()])
            taken = torch.cat([taken, drawn[fits]])
            if len(taken) >= count:
                return taken[:count]
        raise ValueError(
            f"timesteps: hardly a draw falls into {list(self.ranges)}: change shift, mean, low or"
            " high"
        )

    def _draw(self, count: int, generator: Generator, shift: float) -> PerSample:
        if self.density == "logit_normal":
            normal = torch.randn(count, generator=generator)
            t = torch.sigmoid(normal * self.std + self.mean)
        else:
            t = torch.rand(count, generator=generator)
            if self.density == "mode":
                t = 1 - t - self.scale * (torch.cos(math.pi / 2 * t) ** 2 - 1 + t)
        t = shift * t / (1 + (shift - 1) * t)
        return (self.low + (self.high - self.low) * t).clamp(SMALLEST, 1.0)


def _range_of(t: float, ranges: tuple[tuple[float, float], ...]) -> tuple[float, float] | None:
    """The range [low, high) a level falls to; t = 1 belongs to the one that ends there."""
    for low, high in ranges:
        if low <= t < high or t == high == 1.0:
            return low, high
    return None
