"""From coverage to weights and divisors: table, clean cells, feather, exclusive cells, pooling."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from frisket.losses.base import ExclusiveTerm, Normalise, divisors, scale_by_area
from frisket.shapes import Coverage, Flags, PerSample, RegionFlags, Weights


@runtime_checkable
class WeightTable(Protocol):
    """What each region weighs (`masks.weights.RegionWeights`)."""

    def __call__(self, coverage: Coverage, masked: Flags) -> Weights:
        """Weights >= 0 of a batch; 1 everywhere where a sample has no mask."""
        ...

    def weigh_uncurved(self, coverage: Coverage, masked: Flags) -> Weights:
        """The same before threshold, gamma and floor."""
        ...

    def share_weights(self, coverage: Coverage, masked: Flags) -> Coverage:
        """Which share of each cell's weight every region brings, in [0, 1]; b k f h w."""
        ...


def list_exclusive(terms: Iterable[object]) -> tuple[ExclusiveTerm, ...]:
    """Those of the loss terms that may have cells to themselves.

    TypeError for a term written for the names this contract had before: it would lose its cells
    without a word.
    """
    terms = tuple(terms)
    for term in terms:
        if hasattr(term, "claim") and not isinstance(term, ExclusiveTerm):
            raise TypeError(
                f"the loss term {type(term).__name__} has `claim` and `alone`: they are called"
                " `exclusive_mask` and `exclusive` now (frisket.losses.base.ExclusiveTerm)"
            )
    return tuple(term for term in terms if isinstance(term, ExclusiveTerm))


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighting:
    """How a run weighs its cells, in plain values.

    `soften` widens the coverage of each sample by its noise level (t-dependent feather).
    `exclusive` are the terms that may have cells to themselves. `concepts` are regions that are
    logged apart, by name the plane of each; `balance` multiplies what every region's plane brings,
    after the divisor (`losses.concepts`; empty is 1 for all). `beta` is of normalise = "area";
    `raw_beta` makes the loss grow with the raw coverage (see `scale_by_area`), which has no
    meaning over several batches: ValueError together with "global".
    """

    table: WeightTable
    channels: int
    normalise: Normalise = "sample"
    beta: float = 0.5
    raw_beta: float = 0.0
    soften: Callable[[Coverage, PerSample], Coverage] | None = None
    exclusive: tuple[ExclusiveTerm, ...] = ()
    concepts: Mapping[str, int] = field(default_factory=dict)
    balance: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be pooled."""
        if self.raw_beta and self.normalise == "global":
            raise ValueError(
                'normalise = "global" pools over batches, and a loss that grows with the raw'
                ' coverage does not; use "sample" or "batch"'
            )
        if self.balance and not self.concepts:
            raise ValueError("balance: there is no concept to balance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """The cells of one micro-batch, weighed.

    `weights` and `divisor` are what the terms use, after everything. `uncurved` are the weights
    before gamma and floor, there where a term is exclusive. `predicted` is 1 where the model has
    something to predict and 0 where it is handed the clean latents; empty where it predicts all.
    `silent` are the samples without weight in any cell (before a term takes some to itself).
    `concepts` is what of the weights each concept brings, by name. `full_weights` say what lies
    outside, there where some regions were left out or balanced, or tokens were. `left_out` are the
    weights that went with tokens that the model does not see; empty where it sees all.
    """

    weights: Weights
    divisor: PerSample
    silent: Flags
    uncurved: Weights | None = None
    predicted: Weights | None = None
    concepts: Mapping[str, Weights] = field(default_factory=dict)
    full_weights: Weights | None = None
    left_out: Weights | None = None

    @property
    def outside(self) -> Weights | None:
        """How much lies outside, where 1 - `weights` does not say it; else empty.

        What a draw leaves out is no background, and a balance holds nothing harder.
        """
        return None if self.full_weights is None else (1 - self.full_weights).clamp_min(0)


def weigh(
    weighting: Weighting,
    coverage: Coverage,
    masked: Flags,
    t: PerSample,
    *,
    clean: Weights | None = None,
    carried: Weights | None = None,
    progress: float = 1.0,
    region_flags: RegionFlags | None = None,
) -> Weighed:
    """Weights and divisors of one micro-batch, in the one order there is.

    coverage -> feather by t -> table and curve -> nothing where the latents are handed over clean
    -> nothing of regions left out -> nothing where a term has the cell alone -> nothing of tokens
    that the model does not see -> divisor of what is left -> balance of concepts. `clean` is 1 in
    cells that the model is handed clean (`families.base.CLEAN_MASK`): not background but nothing to
    predict, and carry no loss of any term. `carried` is 0 in cells of tokens that it does not see
    (patch masking), else 1. `region_flags` is False for regions that a sample leaves out (union
    sampling). `progress` is the share of the run that is done.
    ValueError for a `t`, `clean` or `carried` of another batch or grid.
    """
    batch, _, *grid = coverage.shape
    _check_shape("t", t, (batch,))
    _check_shape("clean", clean, (batch, 1, *grid))
    _check_shape("carried", carried, (batch, 1, *grid))
    soft = coverage if weighting.soften is None else weighting.soften(coverage, t)
    predicted = None if clean is None else 1 - clean.float()
    full_weights = _predict_only(weighting.table(soft, masked), predicted)
    weights = _leave_out(weighting, full_weights, soft, masked, region_flags)
    changed = weights is not full_weights or bool(weighting.balance) or carried is not None
    silent = weights.flatten(1).sum(1) == 0
    exclusive = _list_active(weighting)
    uncurved = _weigh_uncurved(weighting, coverage, masked)
    for term in exclusive:
        assert uncurved is not None
        weights = weights * (1 - term.exclusive_mask(uncurved, t, progress))
    carried_weights = weights if carried is None else weights * carried
    weighed = Weighed(
        weights=carried_weights,
        divisor=_divide(weighting, carried_weights, uncurved),
        silent=silent,
        uncurved=uncurved if exclusive else None,
        predicted=predicted,
        full_weights=full_weights if changed else None,
        left_out=None if carried is None else weights - carried_weights,
    )
    return _share_out(weighting, weighed, soft, masked) if weighting.concepts else weighed


def _weigh_uncurved(weighting: Weighting, coverage: Coverage, masked: Flags) -> Weights | None:
    """The weights before gamma and floor, where anybody asks for them."""
    if not (weighting.raw_beta or _list_active(weighting)):
        return None
    return weighting.table.weigh_uncurved(coverage, masked)


def _list_active(weighting: Weighting) -> list[ExclusiveTerm]:
    return [term for term in weighting.exclusive if term.exclusive]


def _predict_only(weights: Weights, predicted: Weights | None) -> Weights:
    return weights if predicted is None else weights * predicted


def _leave_out(
    weighting: Weighting,
    weights: Weights,
    coverage: Coverage,
    masked: Flags,
    region_flags: RegionFlags | None,
) -> Weights:
    """The weights without what regions that are left out bring; as they are where none is."""
    if region_flags is None:
        return weights
    shares = weighting.table.share_weights(coverage, masked)
    return weights * (1 - _sum_planes(shares, (~region_flags).float()))


def _share_out(
    weighting: Weighting, weighed: Weighed, coverage: Coverage, masked: Flags
) -> Weighed:
    """The weights of each concept apart, and then all of them balanced."""
    weights, shares = weighed.weights, weighting.table.share_weights(coverage, masked)
    concepts = {name: weights * shares[:, n, None] for name, n in weighting.concepts.items()}
    if weighting.balance:
        extra = torch.tensor(weighting.balance, device=shares.device) - 1
        weights = weights * (1 + _sum_planes(shares, extra.expand(len(shares), -1)))
    return replace(weighed, weights=weights, concepts=concepts)


def _divide(weighting: Weighting, weights: Weights, uncurved: Weights | None) -> PerSample:
    """What each sample's error sum is divided by."""
    divisor = divisors(weights, weighting.channels, weighting.normalise, beta=weighting.beta)
    if not weighting.raw_beta:
        return divisor
    assert uncurved is not None
    pooled = weighting.normalise != "sample"
    return scale_by_area(divisor, uncurved, weighting.raw_beta, pooled=pooled)


def _sum_planes(shares: Tensor, factors: Tensor) -> Tensor:
    """Planes b k f h w, each times its sample's factor (b k), summed to b 1 f h w."""
    total: Tensor = (shares * factors.view(*factors.shape, 1, 1, 1)).sum(1, keepdim=True)
    return total


def _check_shape(name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    if tensor is not None and tuple(tensor.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, the coverage asks for {shape}")


def pool(
    weighting: Weighting, group: Sequence[Weighed], total: Callable[[Tensor], Tensor]
) -> tuple[list[Weighed], list[float]]:
    """The micro-batches of one optimizer step, of all ranks, as one batch of clips.

    `total` sums a vector over the ranks. Returns the micro-batches, and the share of the step's
    clips that each holds: sum over micro-batches and ranks of share * (mean over its clips) is the
    mean over all clips, however ragged they are. With normalise = "global" the divisor becomes the
    mean of all clips' divisors, so that this mean is sum of numerators / sum of divisors.
    """
    counts = [len(weighed.divisor) for weighed in group]
    here = [torch.tensor(float(sum(counts)), dtype=torch.float64)]
    if weighting.normalise == "global":
        divided = torch.stack([weighed.divisor.sum() for weighed in group])
        here.append(divided.cpu().double().sum())
    clips, *sums = total(torch.stack(here)).tolist()
    if sums:
        mean = sums[0] / clips
        group = [
            replace(weighed, divisor=torch.full_like(weighed.divisor, mean)) for weighed in group
        ]
    return list(group), [count / clips for count in counts]
