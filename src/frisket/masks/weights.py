"""From the coverage of regions to how much each latent cell teaches: table, background, curve."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from frisket.masks.axes import check_axes, check_samples
from frisket.shapes import Coverage, Flags, Weights

BACKGROUND = "background"  # what no region covers; it has a weight but no plane
ROUNDING = 1e-6  # a free share this small is float32 rounding of regions that fill the cell


@dataclass(frozen=True, slots=True)
class RegionWeights:
    """The weight table of a run: w = max(floor, raw^gamma), raw = sum_k share_k weight_k + free bg.

    `regions` gives the weight of each plane of the coverage, in the order of its k axis, without
    `background`, which is the weight of what no region covers. Weights may exceed 1. A share is the
    coverage, divided by the cell's total where overlapping regions lay out more than the cell.
    `gamma` below 1 lifts soft cells, above 1 lowers them; weights above 1 take the exponent too.
    `lift` says how the floor is laid: "clamp" as above, "affine" as floor + (1 - floor) raw^gamma.
    With a `threshold`, cells above it are 1 and all others 0 before gamma and floor.
    ValueError for a weight that is negative or not finite, gamma <= 0, or floor outside [0, 1].
    """

    regions: Mapping[str, float] = field(default_factory=lambda: {"subject": 1.0})
    background: float = 0.0
    gamma: float = 1.0
    floor: float = 0.0
    lift: Literal["clamp", "affine"] = "clamp"
    threshold: float | None = None

    def __post_init__(self) -> None:
        """Refuse tables that no clip could be weighted with."""
        if not self.regions:
            raise ValueError("regions: name at least one region besides `background`")
        if BACKGROUND in self.regions:
            raise ValueError("regions: `background` has no plane; give it as the background weight")
        for name, weight in (*self.regions.items(), (BACKGROUND, self.background)):
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"regions: weight of {name!r} is {weight}; use 0 or more")
        if not (math.isfinite(self.gamma) and self.gamma > 0):
            raise ValueError(f"gamma is {self.gamma}; use a number above 0 (1 changes nothing)")
        if not 0 <= self.floor <= 1:
            raise ValueError(
                f"floor is {self.floor}; use 0 (changes nothing) to 1 (no mask counts)"
            )

    def __call__(self, coverage: Coverage, masked: Flags | None = None) -> Weights:
        """Weights of a batch: float32 whatever the coverage's dtype, >= 0.

        Samples whose `masked` flag is off have no mask and weigh exactly 1 everywhere; what their
        coverage holds is not looked at. Without flags all have a mask. ValueError where k is not
        the number of regions, for other axes, or not one flag a sample.
        """
        self._check(coverage, masked)
        return _fill_unmasked(masked, self.curve(self._weigh(coverage)))

    def weigh_uncurved(self, coverage: Coverage, masked: Flags | None = None) -> Weights:
        """The table alone, before threshold, gamma and floor; 1 without a mask. Raises as calls."""
        self._check(coverage, masked)
        return _fill_unmasked(masked, self._weigh(coverage))

    def share_weights(self, coverage: Coverage, masked: Flags | None = None) -> Coverage:
        """Which share of each cell's weight, before the curve, every region brings; in [0, 1].

        The rest is the background's. 0 in cells of no weight and of samples without a mask. Raises
        as a call does.
        """
        self._check(coverage, masked)
        coverage = coverage.float()
        region_weights = (
            coverage / coverage.sum(1, keepdim=True).clamp_min(1) * self._make_table(coverage)
        )
        weights = self._weigh(coverage)
        shares = torch.where(weights > 0, region_weights / weights.clamp_min(1e-30), 0.0)
        return shares if masked is None else shares * masked.view(-1, 1, 1, 1, 1)

    def outside(self, coverage: Coverage, masked: Flags | None = None) -> Weights:
        """1 - w of planes read bicubic, which overshoot [0, 1]: nothing is clamped, it may be < 0.

        0 without a mask. Raises as a call does.
        """
        self._check(coverage, masked)
        table, total = self._make_table(coverage), coverage.float().sum(1, keepdim=True)
        weights = (coverage.float() * table).sum(1, keepdim=True) + self.background * (1 - total)
        return 1 - _fill_unmasked(masked, self.curve(weights))

    def curve(self, weights: Weights) -> Weights:
        """Threshold, gamma and floor, in this order."""
        if self.threshold is not None:
            weights = (weights > self.threshold).float()
        curved = weights if self.gamma == 1 else weights**self.gamma
        if self.floor == 0:
            return curved
        if self.lift == "affine":
            return self.floor + (1 - self.floor) * curved
        return curved.clamp_min(self.floor)

    def _make_table(self, coverage: Tensor) -> Tensor:
        table = torch.tensor(list(self.regions.values()), dtype=torch.float32)
        return table.to(coverage.device).view(1, -1, 1, 1, 1)

    def _check(self, coverage: Tensor, masked: Tensor | None) -> None:
        check_axes("coverage", coverage, "b k f h w")
        if masked is not None:
            check_samples("`masked`", masked, len(coverage), flags=True)
        if coverage.shape[1] != len(self.regions):
            raise ValueError(
                f"coverage has {coverage.shape[1]} planes but the table weighs {len(self.regions)}"
                f" regions {list(self.regions)}: prepare the clips again"
            )

    def _weigh(self, coverage: Tensor) -> Tensor:
        # No einsum or matmul: under autocast they would run in bf16 and lose small weights.
        coverage = coverage.float()
        total = coverage.sum(1, keepdim=True)
        share = coverage / total.clamp_min(1)
        weights = (share * self._make_table(coverage)).sum(1, keepdim=True)
        return weights + self.background * free_share(total)


def _fill_unmasked(masked: Tensor | None, weights: Tensor) -> Tensor:
    if masked is None:
        return weights
    return torch.where(masked.view(-1, 1, 1, 1, 1), weights, 1.0)


def free_share(total: Tensor) -> Tensor:
    """Share of each cell that no region covers, from the summed coverage; exactly 0 where full."""
    free = (1 - total).clamp_min(0)
    return torch.where(free > ROUNDING, free, 0.0)


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and range of one number over clips."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class WeightSummary:
    """What a table of weights does to a data set: the numbers of the banner before training."""

    clips: int
    regions: Mapping[str, Spread]  # share of the clip that each region covers
    weight: Spread  # mean weight of a clip
    background_weight: float  # weight of a cell that no region touches, after gamma and floor
    background_share: float  # share of all weight that lies where no region is, in [0, 1]
    empty: int  # clips that no region touches
    full: int  # clips that regions cover wholly
    silent: int  # clips whose weights are all 0: they teach nothing


def describe(weights: RegionWeights, clips: Iterable[Tensor]) -> WeightSummary:
    """Measure what `weights` make of the coverage of masked clips, one clip at a time.

    `clips` gives coverage `k f h w`; clips may differ in size, and each counts once.
    `background_share` tells what a floor costs: 0.05 around a subject of a tenth of the picture
    gives 31 % of all weight to the background. ValueError where there is no clip, or other axes.
    """
    covered: list[list[float]] = []
    means: list[float] = []
    shares: list[float] = []
    empty = full = 0
    empty_cell = torch.full((1, 1, 1, 1, 1), weights.background, dtype=torch.float64)
    for planes in clips:
        check_axes("coverage of a clip", planes, "k f h w")
        coverage = planes[None].float()
        cells = weights(coverage, torch.ones(1, dtype=torch.bool, device=planes.device)).double()
        free = free_share(coverage.sum(1, keepdim=True)).double()
        covered.append(coverage.double().mean((0, 2, 3, 4)).tolist())
        means.append(float(cells.mean()))
        shares.append(float((cells * free).mean()))
        empty += not coverage.any()
        full += not free.any()
    if not means:
        raise ValueError("no masked clip to describe: no mask was matched to any clip")
    columns = zip(weights.regions, zip(*covered, strict=True), strict=True)
    return WeightSummary(
        clips=len(means),
        regions={name: _measure_spread(column) for name, column in columns},
        weight=_measure_spread(means),
        background_weight=float(weights.curve(empty_cell)),
        background_share=sum(shares) / sum(means) if sum(means) else 0.0,
        empty=empty,
        full=full,
        silent=means.count(0.0),
    )


def _measure_spread(values: Iterable[float]) -> Spread:
    numbers = list(values)
    return Spread(sum(numbers) / len(numbers), min(numbers), max(numbers))
