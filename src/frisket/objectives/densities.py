"""How often each noise level is drawn: curves over (0, 1), by their quantiles."""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Generator, Tensor

KNOTS = 20_001  # of a tabulated quantile


@dataclass(frozen=True, slots=True)
class DensityCurve:
    """U(0, 1), and what all curves have. A rank is the share of draws that lie below."""

    def quantile(self, rank: Tensor) -> Tensor:
        """The level below which a share `rank` of the draws lies; never falls."""
        return rank

    def draw(self, count: int, generator: Generator) -> Tensor:
        """`count` levels, float32 on the CPU."""
        return self.quantile(torch.rand(count, generator=generator))

    def rank(self, level: float) -> float:
        """The share of draws below `level`, to 1e-12: where the quantile passes it."""
        if level <= 0 or level >= 1:
            return float(level >= 1)
        below, above = 0.0, 1.0
        for _ in range(40):
            middle = (below + above) / 2
            reached = float(self.quantile(torch.tensor([middle], dtype=torch.float64))) >= level
            below, above = (below, middle) if reached else (middle, above)
        return above


@dataclass(frozen=True, slots=True)
class LogitNormal(DensityCurve):
    """sigmoid(N(mean, std)) (Esser et al. 2024, eq. 19 with s = std)."""

    mean: float = 0.0
    std: float = 1.0

    def quantile(self, rank: Tensor) -> Tensor:
        """The normal distribution's own, through the sigmoid."""
        normal = torch.special.ndtri(rank.double())
        return torch.sigmoid(normal * self.std + self.mean).to(rank.dtype)

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Of normal draws, as diffusers' compute_density_for_timestep_sampling."""
        return torch.sigmoid(torch.randn(count, generator=generator) * self.std + self.mean)


@dataclass(frozen=True, slots=True)
class Mode(DensityCurve):
    """Esser et al. 2024, eq. 20 with s = `scale`; rises for s from -1 to 2 / (pi - 2)."""

    scale: float = 1.29

    def quantile(self, rank: Tensor) -> Tensor:
        """Eq. 20 falls with its u."""
        return self._at(1 - rank)

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Of uniform draws, as diffusers' compute_density_for_timestep_sampling."""
        return self._at(torch.rand(count, generator=generator))

    def _at(self, u: Tensor) -> Tensor:
        return 1 - u - self.scale * (torch.cos(math.pi / 2 * u) ** 2 - 1 + u)


@dataclass(frozen=True, slots=True)
class Cosmap(DensityCurve):
    """Density 2 / (pi (1 - 2t + 2t^2)) (Esser et al. 2024, section 3.1): a little more amid."""

    def quantile(self, rank: Tensor) -> Tensor:
        """Its integral is an arctangent."""
        return (1 + torch.tan(math.pi / 2 * rank - math.pi / 4)) / 2


@dataclass(frozen=True, slots=True)
class Beta(DensityCurve):
    """Beta(alpha, beta): density t^(alpha - 1) (1 - t)^(beta - 1), normed."""

    alpha: float = 2.0
    beta: float = 2.0

    def quantile(self, rank: Tensor) -> Tensor:
        """From a table of 20,001 levels; exact where one of both is 1."""
        if self.beta == 1:
            return rank ** (1 / self.alpha)
        if self.alpha == 1:
            return 1 - (1 - rank) ** (1 / self.beta)
        levels, ranks = _tabulate_beta(self.alpha, self.beta)
        return _interpolate(rank, ranks, levels)


@dataclass(frozen=True, slots=True)
class Histogram(DensityCurve):
    """Equal parts of (0, 1), each drawn as often as its weight says; even within a part."""

    weights: tuple[float, ...] = ()

    def quantile(self, rank: Tensor) -> Tensor:
        """Straight lines between the edges of the parts."""
        weights = torch.tensor(self.weights, dtype=torch.float64)
        ranks = torch.cat([torch.zeros(1, dtype=torch.float64), weights.cumsum(0) / weights.sum()])
        edges = torch.linspace(0, 1, len(self.weights) + 1, dtype=torch.float64)
        return _interpolate(rank, ranks, edges)


@dataclass(frozen=True, slots=True)
class LevelDensity(DensityCurve):
    """Some levels alone, each as often as it is listed."""

    levels: tuple[float, ...] = ()

    def quantile(self, rank: Tensor) -> Tensor:
        """A step at each of the levels, which are sorted first."""
        ordered = torch.tensor(sorted(self.levels), dtype=torch.float64)
        at = (rank.double() * len(ordered)).floor().long().clamp(0, len(ordered) - 1)
        return ordered[at].to(rank.dtype)


@cache
def _tabulate_beta(alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """Levels of a Beta, and their ranks: midpoints in an angle, in which both ends are tame."""
    angle = torch.linspace(0, math.pi / 2, KNOTS, dtype=torch.float64)
    middle = (angle[1:] + angle[:-1]) / 2
    # t = sin^2: t^(a-1) (1-t)^(b-1) dt = 2 sin^(2a-1) cos^(2b-1) d angle
    mass = ((2 * alpha - 1) * middle.sin().log() + (2 * beta - 1) * middle.cos().log()).exp()
    ranks = torch.cat([torch.zeros(1, dtype=torch.float64), mass.cumsum(0) / mass.sum()])
    return angle.sin() ** 2, ranks


def _interpolate(at: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Straight lines through the points (xs, ys); xs never fall."""
    x = at.double().clamp(0, 1)
    right = torch.searchsorted(xs, x, right=True).clamp(1, len(xs) - 1)
    left = right - 1
    width = (xs[right] - xs[left]).clamp_min(1e-300)
    share = ((x - xs[left]) / width).clamp(0, 1)
    return (ys[left] + share * (ys[right] - ys[left])).to(at.dtype)
