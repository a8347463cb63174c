"""What one denoising step knows, and how an error map under weights becomes one number a sample."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from frisket.losses.comparing import StructureComparison
from frisket.losses.decoding import Decode
from frisket.losses.faces import FaceComparison
from frisket.registry import Shelf
from frisket.shapes import Coverage, Latents, PerSample, PhraseFlags, PhraseMaps, Weights

Normalise = Literal["sample", "batch", "none", "area", "global"]
ErrorKind = Literal["mse", "l1", "huber", "smooth_l1"]
KINDS: tuple[ErrorKind, ...] = ("mse", "l1", "huber", "smooth_l1")
AXES = (1, 2, 3, 4)
TINY = 1e-12  # divisors below it belong to samples without weight: their numerator is 0 as well
CACHE_ELEMENTS = 1 << 17  # of float32: one channel slab that stays in a core's second-level cache


@dataclass(frozen=True, slots=True)
class AttentionRequest:
    """Which attention a term reads: of these layers, in this reading.

    `layers` are names of layers, endings, globs, "middle" or "all" (see
    `attention.capture.choose_layers`). `softmax`: over "all" that a cell attends to, or over the
    prompt's positions ("text") alone, which differ in joint attention.
    """

    layers: tuple[str, ...] = ("middle",)
    softmax: Literal["all", "text"] = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionMaps:
    """What the denoiser attended to in one step, phrase by phrase; differentiable.

    `maps` are by layer, in the order of the forward pass, each on that layer's own grid: the share
    of a cell's attention that goes to the phrase's positions, float32. `known` is False where a
    sample's caption does not hold the phrase: its map is then 0. `regions` says which plane of the
    coverage each phrase is of.
    """

    maps: Mapping[str, PhraseMaps]
    known: PhraseFlags
    regions: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One denoising step as the loss terms see it; all tensors share one latent grid.

    `divisor` is what the weighted error of each sample is divided by (see `divisors`); empty means
    normalise = "sample". `prior` and `prior_ema` are what the frozen base and the averaged adapter
    predict, `prior_control` what the base does beside the frozen ControlNet as this step has it,
    each there where a term needs it. `progress` is the share of the run that is done, in
    [0, 1]. `uncurved` are the weights before gamma and floor, there where a term is exclusive.
    `outside` is how much the prior holds a cell, in place of 1 - weights (it may be negative:
    another trainer's bicubic). `predicted` is 1 where there is something to predict and 0 where the
    model was handed the clean latents; empty means 1. A weight of 0 may mean either background or
    nothing to predict: a term that turns weights round multiplies by `predicted` (`tests/contracts`
    hold every term to it). `attention` is what was asked for by terms that need it, by request;
    empty for a sample set without one phrase. `importance`: tokens without weight may have been
    left out (token routing): 0 in their cells, where the prediction carries no gradient, and
    1 / P(kept) in the others; empty means none was. A term that looks where weights are 0
    multiplies its sum by it and not its divisor (Horvitz and Thompson), so that its mean over the
    draws is what it was. `noisy` are the latents that the denoiser was handed, for terms that
    need LEFT_OUT. `left_out` are the weights of the cells behind tokens that it left out and
    predicts all the same (patch masking), which `weights` lack, and 0 elsewhere; each token is
    `patch` cells. Empty where all were in. `clean` are the latents that were corrupted, `estimate`
    what the prediction says they are (x_0, float32, differentiable), `decode` turns such latents,
    b c f h w, into pixels; all three for terms that need DECODED. `faces` is for those that need
    FACES, `structure` for those that need STRUCTURE.
    """

    prediction: Latents
    target: Latents
    t: PerSample
    weights: Weights
    coverage: Coverage
    divisor: PerSample | None = None
    prior: Latents | None = None
    prior_ema: Latents | None = None
    prior_control: Latents | None = None
    progress: float = 1.0
    uncurved: Weights | None = None
    outside: Weights | None = None
    predicted: Weights | None = None
    importance: Weights | None = None
    noisy: Latents | None = None
    left_out: Weights | None = None
    patch: tuple[int, int, int] = (1, 1, 1)
    attention: Mapping[AttentionRequest, AttentionMaps] = field(default_factory=dict)
    clean: Latents | None = None
    estimate: Latents | None = None
    decode: Decode | None = None
    faces: FaceComparison | None = None
    structure: StructureComparison | None = None


# What a term may ask of the trainer: the prediction of the frozen base, of the averaged adapter, of
# the base under control, the attention of the denoiser in its own forward pass (see
# `AttentionTerm`), tokens left out, what the prediction looks like (`Step.decode`), the faces of
# the clips (`losses.faces.FaceTerm`), frames whose structure is compared
# (`losses.comparing.StructureTerm`), and the control pictures of the clips for it.
BASE, EMA, ATTENTION, LEFT_OUT = "prior:base", "prior:ema", "attention", "left out"
DECODED, FACES, STRUCTURE, CONTROL = "decoded", "faces", "structure", "control"
CONTROLLED = "prior:control"
NEEDS = frozenset({BASE, EMA, CONTROLLED, ATTENTION, LEFT_OUT, DECODED, FACES, STRUCTURE, CONTROL})


@runtime_checkable
class LossTerm(Protocol):
    """One file under `terms` binds a frozen dataclass to `TERM`; its fields are the options.

    `needs` is a subset of NEEDS: the trainer computes no more than is asked for, and refuses when
    it is built what it cannot give.
    """

    @property
    def needs(self) -> frozenset[str]:
        """What the step must carry besides the denoiser's own prediction."""
        ...

    def __call__(self, step: Step) -> PerSample:
        """The term's value for each sample, float32, finite, differentiable in the prediction."""
        ...


_LACKING = {
    EMA: 'teacher = "ema" needs an average (optimizer.ema > 0)',
    FACES: (
        "looks at decoded faces, and this trainer was given no `faces` to compare"
        " (frisket.training.decoded.faces.FaceWatch)"
    ),
    STRUCTURE: (
        "looks at decoded structure, and this trainer was given no `structure` to compare"
        " (frisket.training.decoded.structure.StructureWatch)"
    ),
    DECODED: "looks at decoded pictures, and this trainer has no decoder (`faces` or `structure`)",
    CONTROLLED: (
        "stays with the base beside a frozen ControlNet, and this trainer has none (`controlled`);"
        " set control.source, or take the term prior"
    ),
}


def check_needs(name: str, term: LossTerm, lacking: Collection[str]) -> None:
    """ValueError where the term `name` needs what no trainer gives, or what this one is lacking."""
    if missing := sorted(term.needs - NEEDS):
        raise ValueError(
            f"{name}: needs {missing[0]!r}, a trainer gives {', '.join(sorted(NEEDS))}"
        )
    for need, sentence in _LACKING.items():
        if need in term.needs and need in lacking:
            raise ValueError(f"{name}: {sentence}")


@runtime_checkable
class AttentionTerm(Protocol):
    """A term whose `needs` hold "attention" says which: `step.attention[term.attention]`."""

    @property
    def attention(self) -> AttentionRequest:
        """What the trainer captures for it."""
        ...


@runtime_checkable
class ExclusiveTerm(Protocol):
    """A term that may have cells to itself: the trainer takes their weight from all others."""

    @property
    def exclusive(self) -> bool:
        """Whether it takes any."""
        ...

    def exclusive_mask(self, uncurved: Weights, t: PerSample, progress: float) -> Weights:
        """1 in its own cells, 0 elsewhere, from the weights before gamma and floor.

        None where the term has no strength, at this noise level or so far in the run (`progress`,
        the share that is done, in [0, 1]): a cell that it does not hold is left to the others.
        """
        ...


TERMS: Shelf[Callable[..., LossTerm]] = Shelf("frisket.losses.terms", "TERM", "frisket.losses")


def divisors(
    weights: Weights, channels: int, normalise: Normalise = "sample", *, beta: float = 0.5
) -> PerSample:
    """What each sample's weighted error sum is divided by, so that the batch mean is the loss.

    With W = the sample's sum of weights, N = its number of cells and C = `channels`:

    sample  C W: every clip pulls equally hard, whatever its mask's size.
    batch   C mean_b(W): the batch is one pool of weighted cells.
    none    C N: the plain mean of error times weight (kohya sd-scripts): small masks pull less.
    area    C W^(1-beta) N^beta, that is `sample` times coverage^beta: between the two.
    global  as `batch`; the trainer replaces mean_b by the mean over all ranks and micro-batches.

    Returns float32; 0 where a sample has no weight at all (its loss is then 0, never NaN).
    ValueError for weights of other axes than b 1 f h w.
    """
    if weights.ndim != len(AXES) + 1 or weights.shape[1] != 1:
        raise ValueError(f"weights of shape {tuple(weights.shape)}: expected b 1 f h w")
    sums = weights.float().sum(AXES)
    cells = float(weights[0].numel())
    if normalise == "none":
        sums = torch.full_like(sums, cells)
    elif normalise in ("batch", "global"):
        sums = sums.mean().expand_as(sums)
    elif normalise == "area":
        sums = torch.where(sums > 0, sums.clamp_min(TINY) ** (1 - beta) * cells**beta, 0.0)
    return sums * channels


def scale_by_area(divisor: PerSample, uncurved: Weights, beta: float, *, pooled: bool) -> PerSample:
    """A divisor that makes the loss grow with mean(raw)^beta, of each sample or (`pooled`) of all.

    `uncurved` are the weights before gamma and floor. Infinite where nothing is covered: no loss.
    After `--mask_area_scale_beta` of DustyL's blissful-tuner.
    """
    area = uncurved.float().mean(AXES).clamp(0, 1)
    if pooled:
        area = area.mean().expand_as(area)
    return torch.where(area > 0, divisor / area**beta, math.inf)


def weighted_error(
    kind: ErrorKind,
    delta: float,
    prediction: Latents,
    target: Latents,
    weights: Weights,
    divisor: PerSample | None = None,
) -> PerSample:
    """`weighted_mean` of the error of a kind; no gradient flows to the target.

    huber is 0.5 d^2 below `delta` and delta (|d| - delta/2) above, smooth_l1 is huber / delta.
    """
    if kind == "mse":
        return weighted_mse(prediction, target, weights, divisor)
    ours, wanted = prediction.float(), target.detach().float()
    if kind == "l1":
        error = functional.l1_loss(ours, wanted, reduction="none")
    elif kind == "huber":
        error = functional.huber_loss(ours, wanted, reduction="none", delta=delta)
    else:
        error = functional.smooth_l1_loss(ours, wanted, reduction="none", beta=delta)
    return weighted_mean(error, weights, divisor)


def check_kind(name: str, kind: str, delta: float) -> None:
    """ValueError, for the term `name`, where the options of `weighted_error` have no meaning."""
    if kind not in KINDS:
        raise ValueError(f"{name}: kind {kind!r} is not one of {', '.join(KINDS)}")
    if delta <= 0:
        raise ValueError(f"{name}: delta must be > 0, got {delta}")


def weighted_mean(error: Latents, weights: Weights, divisor: PerSample | None = None) -> PerSample:
    """Mean of an error map under weights, per sample: sum(error * w) / (C * sum(w)), float32.

    All-ones weights give the plain mean; all-zero weights give 0 with zero gradient. `divisor`
    replaces C * sum(w) (see `divisors`). ValueError for weights of another grid, or not one divisor
    a sample: they do not broadcast.
    """
    _same_grid(error, weights)
    by_cell = error.float().sum(1, keepdim=True)
    return (by_cell * weights.float()).sum(AXES) / _divisor(error, weights, divisor)


def weighted_mse(
    prediction: Latents, target: Latents, weights: Weights, divisor: PerSample | None = None
) -> PerSample:
    """`weighted_mean` of the squared error, fused: nothing of full size is kept for backward.

    All-ones weights give torch's `mse_loss` of each sample bit for bit. The gradient with respect
    to the prediction is 2 (prediction - target) w / divisor, exactly 0 where w is 0; the target and
    the weights get none.
    """
    _same_grid(prediction, weights)
    per_sample = _divisor(prediction, weights, divisor)
    if bool((per_sample == prediction[0].numel()).all()) and bool((weights == 1).all()):
        pairs = zip(prediction.float(), target.float(), strict=True)
        return torch.stack([functional.mse_loss(ours, wanted) for ours, wanted in pairs])
    value: PerSample = _WeightedSquares.apply(
        prediction, target.detach(), weights.float(), per_sample
    )  # type: ignore[no-untyped-call]
    return value


def _same_grid(error: Tensor, weights: Tensor) -> None:
    expected = (error.shape[0], 1, *error.shape[2:])
    if tuple(weights.shape) != expected:
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} do not fit an error of shape"
            f" {tuple(error.shape)}: expected {expected} (b 1 f h w)"
        )


def _divisor(error: Tensor, weights: Tensor, divisor: Tensor | None) -> Tensor:
    per_sample = divisors(weights, error.shape[1]) if divisor is None else divisor.float()
    if tuple(per_sample.shape) != (len(error),):
        raise ValueError(f"divisor of shape {tuple(per_sample.shape)} for a batch of {len(error)}")
    return per_sample.clamp_min(TINY)


def _slabs(tensor: Tensor) -> list[slice]:
    """Cuts of the channel axis: cache-sized on a CPU, one whole on an accelerator."""
    channels = tensor.shape[1]
    if tensor.device.type != "cpu":
        return [slice(0, channels)]
    width = max(1, CACHE_ELEMENTS // max(1, tensor[:, :1].numel()))
    return [slice(start, start + width) for start in range(0, channels, width)]


class _WeightedSquares(torch.autograd.Function):
    """sum_c,x w(x) (p - y)^2 / divisor: keeps its inputs alone and works in cache-sized slabs."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, prediction: Tensor, target: Tensor, weights: Tensor, divisor: Tensor
    ) -> Tensor:
        squares = torch.zeros_like(weights)
        for cut in _slabs(prediction):
            difference = prediction[:, cut].float() - target[:, cut].float()
            if difference.shape[1] == 1:
                squares.addcmul_(difference, difference)
            else:
                squares += difference.square_().sum(1, keepdim=True)
        ctx.save_for_backward(prediction, target, weights, divisor)
        return squares.mul_(weights).sum(AXES) / divisor

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        prediction, target, weights, divisor = ctx.saved_tensors
        scale = weights * (2 * gradient.float() / divisor).view(-1, 1, 1, 1, 1)
        result = torch.empty_like(prediction)
        for cut in _slabs(prediction):
            if result.dtype == torch.float32 == target.dtype:
                torch.sub(prediction[:, cut], target[:, cut], out=result[:, cut]).mul_(scale)
            else:
                difference = prediction[:, cut].float() - target[:, cut].float()
                result[:, cut].copy_(difference.mul_(scale))
        return result, None, None, None
