"""How often each noise level is trained: draws of t in (0, 1]."""

from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Generator, Tensor

from frisket.objectives.densities import (
    Beta,
    Cosmap,
    DensityCurve,
    Histogram,
    LevelDensity,
    LogitNormal,
    Mode,
)
from frisket.objectives.kinds import Bounds, Density, Emphasis, LogitNormalPart, find_fault
from frisket.objectives.shift import SizeShift, pull
from frisket.shapes import Cells, PerSample

__all__ = ["SMALLEST", "Bounds", "Density", "Emphasis", "LogitNormalPart", "TimestepSampler"]

TRIES = 200  # of 64 draws: an expert whose noise levels are rarer than that is a wrong setting
SMALLEST = 1e-3  # t = 0 is no noise: nothing to predict, and v-targets lose their meaning
RARE = 1e-9  # a range that fewer draws fall into than this is a wrong setting


@dataclass(frozen=True)
class TimestepSampler:
    """Draws t; `shift` then pushes it towards noise, `low` and `high` bound it.

    uniform: U(0, 1). logit_normal: sigmoid(N(mean, std)) (Esser et al. 2024, eq. 19 with s = std).
    mode: Esser et al. 2024, eq. 20 with s = `scale`. cosmap: their section 3.1. beta: Beta(alpha,
    beta). histogram: equal parts of (0, 1) by weight. levels: those alone. shift: t <- s t /
    (1 + (s - 1) t) (eq. 23); a `SizeShift` takes s from the size of the latents the draw is for.

    `low` and `high` bound the range by one of three ways: squeeze maps a shifted draw into [low,
    high] affinely; cut keeps the density's shape, and draws from what of it lies in [low, high]
    after the shift; squeeze_before_shift maps the draw affinely and shifts it then.

    `emphasis`: u^3 in place of the uniform rank u of a draw, from the end of the noise ("content")
    or of the picture ("style") (Mou et al. 2023, section 3.4, as ai-toolkit's content_or_style).
    `parts` are shares of the draws that come from logit-normals of their own, unshifted.

    `ranges`, where given, are those of a model's experts: a batch keeps to one of them (the first
    draw says which, so that every expert is trained as often as its noise levels come up; with
    `even` each as often), and what falls into none is drawn again.
    """

    density: Density = "logit_normal"
    mean: float = 0.0
    std: float = 1.0
    scale: float = 1.29
    shift: float | SizeShift = 1.0
    low: float = 0.0
    high: float = 1.0
    ranges: tuple[tuple[float, float], ...] = ()
    bounds: Bounds = "squeeze"
    alpha: float = 2.0
    beta: float = 2.0
    histogram: tuple[float, ...] = ()
    levels: tuple[float, ...] = ()
    emphasis: Emphasis = "balanced"
    parts: tuple[LogitNormalPart, ...] = ()
    even: bool = False

    def __post_init__(self) -> None:
        """Refuse settings no draw could satisfy."""
        if fault := find_fault(self):
            raise ValueError(f"timesteps: {fault}")
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
        if self.even:
            chosen = int(torch.randint(len(within), (1,), generator=generator))
            within = (within[chosen],)
        for _ in range(TRIES):
            drawn = self._draw(max(count, 64), generator, shift)
            fits = _fits(drawn, within)
            if taken is None:
                if not fits.any():
                    continue
                first = drawn[fits][:1]
                within = next((bounds,) for bounds in within if _fits(first, (bounds,)).any())
                taken, fits = drawn[:0], _fits(drawn, within)
            taken = torch.cat([taken, drawn[fits]])
            if len(taken) >= count:
                return taken[:count]
        raise ValueError(
            f"timesteps: hardly a draw falls into {list(self.ranges)}: change shift, mean, low or"
            " high"
        )

    @cached_property
    def curve(self) -> DensityCurve:
        """The density, before the shift."""
        return {
            "uniform": DensityCurve(),
            "logit_normal": LogitNormal(self.mean, self.std),
            "mode": Mode(self.scale),
            "cosmap": Cosmap(),
            "beta": Beta(self.alpha, self.beta),
            "histogram": Histogram(self.histogram),
            "levels": LevelDensity(self.levels),
        }[self.density]

    def _draw(self, count: int, generator: Generator, shift: float) -> PerSample:
        if not self.parts:
            return self._draw_curve(self.curve, count, generator, shift)
        curves = [(self.curve, shift), *((LogitNormal(m, s), 1.0) for _, m, s in self.parts)]
        shares = torch.tensor(
            [1 - sum(part[0] for part in self.parts), *(p[0] for p in self.parts)]
        )
        if self.bounds == "cut":
            ends = [self._window(curve, moved) for curve, moved in curves]
            shares = shares * torch.tensor([above - below for below, above in ends])
        owners = torch.multinomial(shares, count, replacement=True, generator=generator)
        t = torch.empty(count)
        for number, (curve, moved) in enumerate(curves):
            mine = owners == number
            if mine.any():
                t[mine] = self._draw_curve(curve, int(mine.sum()), generator, moved)
        return t

    def _draw_curve(
        self, curve: DensityCurve, count: int, generator: Generator, shift: float
    ) -> PerSample:
        """Draws of one curve, shifted and bounded."""
        if self.bounds == "cut" and (self.low > 0 or self.high < 1):
            below, above = self._window(curve, shift)
            if above - below < RARE:
                raise ValueError(
                    f"timesteps: hardly a draw falls into [{self.low:g}, {self.high:g}]: change"
                    " low, high, shift or the density"
                )
            rank = self._emphasise(torch.rand(count, generator=generator).double())
            t = curve.quantile(below + (above - below) * rank).float()
        elif self.emphasis == "balanced":
            t = curve.draw(count, generator)
        else:
            t = curve.quantile(self._emphasise(torch.rand(count, generator=generator)))
        if self.bounds == "squeeze_before_shift":
            t = self.low + (self.high - self.low) * t
        t = shift * t / (1 + (shift - 1) * t)
        if self.bounds == "squeeze":
            t = self.low + (self.high - self.low) * t
        if self.bounds == "cut":
            t = t.clamp(self.low, self.high)
        return t.clamp(SMALLEST, 1.0)

    def _emphasise(self, u: Tensor) -> Tensor:
        if self.emphasis == "balanced":
            return u
        return u**3 if self.emphasis == "style" else 1 - u**3

    def _window(self, curve: DensityCurve, shift: float) -> tuple[float, float]:
        return _ranks(curve, pull(self.low, shift), pull(self.high, shift))


@cache
def _ranks(curve: DensityCurve, low: float, high: float) -> tuple[float, float]:
    """Ranks of both ends of a range."""
    return curve.rank(low), curve.rank(high)


def _fits(t: Tensor, ranges: tuple[tuple[float, float], ...]) -> Tensor:
    """Which levels fall into one of the ranges [low, high); t = 1 into one that ends there."""
    exact, inside = t.double(), torch.zeros(len(t), dtype=torch.bool)
    for low, high in ranges:
        inside |= (exact >= low) & ((exact < high) | ((exact == 1) & (high == 1)))
    return inside
