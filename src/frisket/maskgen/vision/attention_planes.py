"""An attention map to a soft mask: cut where it divides best, and how well it does."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class MapCut:
    """Where a map is cut, and the share of its variance that the cut explains, in [0, 1].

    `separation` is 0 where the map is flat and near 1 where it has two levels and nothing between.
    """

    threshold: float
    separation: float


def find_cut(values: Float[Tensor, "*shape"]) -> MapCut:
    """The cut between two classes that differ most: Otsu 1979, over every cut there is.

    IEEE Trans. SMC 9(1), equations 14 to 18, without a histogram. The threshold lies half way
    between the neighbours that it parts. ValueError for NaN or infinity.
    """
    ordered = values.detach().double().flatten().sort().values
    if not bool(torch.isfinite(ordered).all()):
        raise ValueError("a map of attention holds NaN or infinity")
    count = len(ordered)
    variance = float(ordered.var(unbiased=False))
    if variance <= 0:
        return MapCut(float(ordered[0]), 0.0)
    sums = ordered.cumsum(0)
    counts_below = torch.arange(1, count, dtype=torch.double)
    share = counts_below / count
    mean_gaps = (sums[-1] - sums[:-1]) / (count - counts_below) - sums[:-1] / counts_below
    between = share * (1 - share) * mean_gaps.square()
    between[ordered[1:] == ordered[:-1]] = -1.0  # equal values are on one side
    place = int(between.argmax())
    threshold = float((ordered[place] + ordered[place + 1]) / 2)
    return MapCut(threshold, min(float(between[place]) / variance, 1.0))


def soften_map(values: Float[Tensor, "*shape"], threshold: float) -> Float[Tensor, "*shape"]:
    """From 0 at the least value over 0.5 at the threshold to 1 at the greatest, straight between.

    A map that is flat has nothing inside: 0.
    """
    least, greatest = float(values.min()), float(values.max())
    if greatest <= least:
        return torch.zeros_like(values)
    above = (values - threshold) / max(greatest - threshold, 1e-30)
    under = (values - least) / max(threshold - least, 1e-30)
    return torch.where(values >= threshold, 0.5 + above / 2, under / 2).clamp(0, 1)
