"""How many ranks of an adapter act at which noise level (T-LoRA)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from frisket.shapes import PerSample

LEVELS = 1000  # t is looked at in thousandths, as the authors' integer timesteps are


@dataclass(frozen=True, slots=True)
class RankSchedule:
    """T-LoRA's schedule of ranks (Soboleva et al., 2507.05964).

    r(t) = floor((r - r_min) (1 - t)^power) + r_min: all ranks at t = 0, `least` at pure noise. The
    first r(t) ranks act. With `pairs` the second half of the ranks comes and goes with the first
    (what an orthogonal start subtracts, in a file), and r is half of them. `quantiles` are noise
    levels at equal steps of probability in training, from 0 to 1: with them t is replaced by the
    share of training that lies below it, so that a sampler shifted to high noise uses all ranks.

    Computed in float64 from t rounded to thousandths, as the authors' SDXL trainer does, which
    divides before it multiplies; their FLUX code multiplies first and may differ by one rank where
    rounding meets a whole number.
    """

    least: int
    power: float = 1.0
    pairs: bool = False
    quantiles: tuple[float, ...] = ()

    def count(self, t: PerSample, rank: int) -> Int[Tensor, "b"]:
        """How many of `rank` ranks act at these noise levels in [0, 1]; ValueError for fewer."""
        if rank < self.least:
            raise ValueError(f"rank {rank} is less than the {self.least} ranks that always act")
        share = self.find_share(t)
        return ((share**self.power) * (rank - self.least)).floor().long() + self.least

    def find_share(self, t: PerSample) -> Float[Tensor, "b"]:
        """What is left of the way to t = 0, from 0 at pure noise to 1: by t, or by its quantile."""
        ticks = (t.double() * LEVELS).round().clamp(0, LEVELS)
        if not self.quantiles:
            return (LEVELS - ticks) / LEVELS  # not 1 - t: at t = 0.9 that is less than a tenth
        level = ticks / LEVELS
        steps = torch.tensor(self.quantiles, dtype=level.dtype, device=level.device)
        upper = torch.searchsorted(steps, level.contiguous()).clamp(1, len(steps) - 1)
        low, high = steps[upper - 1], steps[upper]
        inside = ((level - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
        return 1 - (upper - 1 + inside) / (len(steps) - 1)

    def mask(self, t: PerSample, rank: int) -> Float[Tensor, "b r"]:
        """1 for each rank that acts at these noise levels, else 0, for an update of `rank` ranks.

        ValueError where pairs are asked for and `rank` is odd.
        """
        if self.pairs and rank % 2:
            raise ValueError(f"ranks come in pairs, and there are {rank}")
        masked_ranks = rank // 2 if self.pairs else rank
        act = torch.arange(masked_ranks, device=t.device) < self.count(t, masked_ranks)[:, None]
        return (act.repeat(1, 2) if self.pairs else act).float()
