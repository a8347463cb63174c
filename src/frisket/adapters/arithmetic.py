"""Sums with adapters, apart from any model: scale, resize, average, extract and merge."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from frisket.adapters.layers import MAGNITUDE, A, B, Layer, Layers
from frisket.adapters.spec import AdapterMismatch

EXACT = 512  # up to this least side a whole SVD is quick; above it a randomised one is taken
MORE = 32  # directions the randomised one looks at beyond the asked rank
ROUNDS = 6  # its power iterations
MOST = 16_384  # a rank; no layer has more directions


@dataclass(frozen=True, slots=True)
class KeptEnergy:
    """Share of the squared singular values that a lower rank keeps: the least layer's and the mean.

    1 is all of it; a layer of nothing but zeros keeps 1.
    """

    least: float
    mean: float
    worst: str  # the layer that lost most

    def __str__(self) -> str:
        return (
            f"{self.mean:.1%} of the energy kept, at least {self.least:.1%} in each layer"
            f" ({self.worst})"
        )


class LowRankProduct(NamedTuple):
    """A product B A of low rank as matrices, float32."""

    high: Tensor  # out x r
    low: Tensor  # r x in


def delta(layer: Layer, shape: Sequence[int] | None = None) -> Tensor:
    """What a layer adds to its base weight, alpha included; float32, in `shape`, or out x in.

    For dora it is the part without the magnitudes.
    """
    tensors = {key: value.float() for key, value in layer.tensors.items()}
    if layer.kind == "loha":
        first = tensors["hada_w1_a"] @ tensors["hada_w1_b"]
        update = first * (tensors["hada_w2_a"] @ tensors["hada_w2_b"])
    elif layer.kind == "lokr":
        first, second = (_factor(tensors, name) for name in ("lokr_w1", "lokr_w2"))
        update = torch.kron(first.reshape(*first.shape, *[1] * (second.ndim - 2)), second)
    else:
        update = tensors[B].flatten(1) @ tensors[A].flatten(1)
    update = update * layer.scale
    return update if shape is None else update.reshape(tuple(shape))


def _factor(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    whole = tensors.get(name)
    return tensors[f"{name}_a"] @ tensors[f"{name}_b"] if whole is None else whole


def round_weight(changed: Tensor, dtype: torch.dtype) -> Tensor:
    """A merged weight in a dtype; AdapterMismatch where that makes it no finite number."""
    rounded = changed.to(dtype)
    if not bool(torch.isfinite(rounded).all()):
        kind = str(dtype).removeprefix("torch.")
        raise AdapterMismatch(f"the merged weight has values that are not finite in {kind}")
    return rounded


def change_weight(weight: Tensor, layer: Layer) -> Tensor:
    """A base weight with an adapter's layer worked in, float32.

    dora: (W + B A) scaled to its learned magnitude, output by output (arXiv:2402.09353 eq. 5).
    AdapterMismatch where the layer is of another size.
    """
    base = weight.float()
    try:
        change = delta(layer)
        if change.numel() != weight.numel() or change.shape[0] != weight.shape[0]:
            raise AdapterMismatch(
                f"it is for a weight of {change.shape[0]} outputs and {change.numel()} numbers, not"
                f" of {tuple(weight.shape)}"
            )
        changed = base + change.reshape(weight.shape)
    except RuntimeError as error:
        raise AdapterMismatch(f"it does not fit a weight of {tuple(weight.shape)}") from error
    if layer.kind == "dora":
        magnitude = layer.tensors[MAGNITUDE].float().flatten()
        norm = changed.flatten(1).norm(dim=1)
        changed = changed * (magnitude / norm).view(-1, *[1] * (changed.ndim - 1))
    return changed


def scale(layers: Layers, factor: float) -> Layers:
    """An adapter of `factor` times the effect: exact, for only alpha changes.

    ValueError for a number that is not finite and for 0 (kohya's programs read alpha 0 as "the
    rank"); AdapterMismatch for dora, whose effect is no multiple of its factors.
    """
    if not math.isfinite(factor):
        raise ValueError(f"scale {factor} is no finite number")
    if factor == 0:
        raise ValueError("scale 0 leaves nothing of an adapter; leave it out instead")
    _plain(layers, "scaled", ("lora", "loha", "lokr"))
    return {name: _scale_layer(layer, factor) for name, layer in layers.items()}


def _scale_layer(layer: Layer, factor: float) -> Layer:
    if not layer.rank:  # a LoKr of two whole factors: nothing else scales it
        first = layer.tensors["lokr_w1"].float() * factor
        return replace(layer, tensors={**layer.tensors, "lokr_w1": first})
    return replace(layer, alpha=layer.scale * layer.rank * factor)


def resize(layers: Layers, rank: int) -> tuple[Layers, KeptEnergy]:
    """The best adapter of another rank (truncated SVD of B A), and what it keeps; alpha = rank.

    A higher rank than before keeps all, its further directions are zeros.
    """
    _plain(layers, "resized")
    _check_rank(rank)
    resized_layers, energies = {}, {}
    for name, layer in layers.items():
        high, low, values = _svd(factors(layer))
        resized_layers[name] = layer_from(LowRankProduct(high, low), rank, layer)
        energies[name] = energy(values, rank)
    return resized_layers, summarise_energy(energies)


def average(
    adapters: Sequence[Layers], weights: Sequence[float], *, rank: int = 0, exact: bool = False
) -> tuple[Layers, KeptEnergy]:
    """The weighted sum of several adapters' effects, and what was kept of it.

    `exact`: the factors side by side, the rank is the sum of theirs. Else the best of rank `rank`
    (0: the highest of theirs). A layer that some have not got counts as zero there.
    """
    if len(adapters) != len(weights) or not adapters:
        raise ValueError(f"{len(adapters)} adapters need as many weights, not {len(weights)}")
    for layers in adapters:
        _plain(layers, "averaged")
    _check_rank(rank or 1)
    ranks = [_find_highest_rank(layers) for layers in adapters]
    rank = sum(ranks) if exact else rank or max(ranks)
    averages, energies = {}, {}
    for name in dict.fromkeys(name for layers in adapters for name in layers):
        weighted = _weigh_layers(name, adapters, weights)
        pair, energies[name] = _join_factors(name, weighted), 1.0
        if not exact:
            high, low, values = _svd(pair)
            pair, energies[name] = LowRankProduct(high, low), energy(values, rank)
        averages[name] = layer_from(pair, rank, weighted[0][0])
    return averages, summarise_energy(energies)


def _weigh_layers(
    name: str, adapters: Sequence[Layers], weights: Sequence[float]
) -> list[tuple[Layer, float]]:
    """One layer of every adapter that has it, with the weight of that adapter."""
    return [
        (layers[name], weight)
        for layers, weight in zip(adapters, weights, strict=True)
        if name in layers
    ]


def _find_highest_rank(layers: Layers) -> int:
    return max(layer.rank for layer in layers.values())


def _join_factors(name: str, weighted: Sequence[tuple[Layer, float]]) -> LowRankProduct:
    """The factors of one layer in several adapters side by side, weights multiplied into B."""
    pairs = [(factors(layer), weight) for layer, weight in weighted]
    sides = {(pair.high.shape[0], pair.low.shape[1]) for pair, _ in pairs}
    if len(sides) > 1:
        both = " and ".join(f"{outs} x {ins}" for outs, ins in sorted(sides))
        raise AdapterMismatch(f"{name} is {both} in them: they are of different models")
    high = torch.cat([pair.high * weight for pair, weight in pairs], 1)
    return LowRankProduct(high, torch.cat([pair.low for pair, _ in pairs]))


def extract(base: Tensor, tuned: Tensor, rank: int) -> tuple[Layer, float]:
    """The layer of `rank` nearest to tuned - base (two weights of one layer), and what it keeps.

    ValueError where they are of different sizes.
    """
    if base.shape != tuned.shape:
        raise ValueError(f"the weights are {tuple(base.shape)} and {tuple(tuned.shape)}")
    change = tuned.float() - base.float()
    matrix = change.flatten(1)
    rank = min(rank, *matrix.shape)
    if min(matrix.shape) <= max(EXACT, 2 * rank):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            left, values, columns = torch.svd_lowrank(matrix, rank + MORE, niter=ROUNDS)
        right = columns.mT
    root = values[:rank].sqrt()
    pair = LowRankProduct(left[:, :rank] * root, root[:, None] * right[:rank])
    total = float(matrix.double().square().sum())
    share = float(values[:rank].double().square().sum()) / total if total else 1.0
    ones = [1] * (change.ndim - 2)
    high, low = pair.high.reshape(-1, rank, *ones), pair.low.reshape(rank, *change.shape[1:])
    tensors = {A: low.contiguous(), B: high.contiguous()}
    return Layer("lora", tensors, rank, float(rank)), min(share, 1.0)


def factors(layer: Layer) -> LowRankProduct:
    """B and A as matrices in float32, alpha / rank multiplied into B."""
    return LowRankProduct(layer.high.float().flatten(1) * layer.scale, layer.low.float().flatten(1))


def layer_from(pair: LowRankProduct, rank: int, like: Layer) -> Layer:
    """A layer of exactly this rank with the kernel of another: cut, or filled up with zeros."""
    have = min(rank, pair.low.shape[0])
    low = pair.low.new_zeros(rank, pair.low.shape[1])
    high = pair.high.new_zeros(pair.high.shape[0], rank)
    low[:have], high[:, :have] = pair.low[:have], pair.high[:, :have]
    tensors = {
        A: low.reshape(rank, *like.low.shape[1:]),
        B: high.reshape(-1, rank, *like.high.shape[2:]),
    }
    return Layer("lora", tensors, rank, float(rank))


def energy(values: Tensor, rank: int) -> float:
    """Share of the squared singular values in the first `rank`."""
    squares = values.double().square()
    total = float(squares.sum())
    return float(squares[:rank].sum()) / total if total else 1.0


def summarise_energy(energies: Mapping[str, float]) -> KeptEnergy:
    """What a lower rank keeps of an adapter, from the share that each layer keeps, in [0, 1]."""
    worst = min(energies, key=energies.__getitem__)
    return KeptEnergy(energies[worst], sum(energies.values()) / len(energies), worst)


def _svd(pair: LowRankProduct) -> tuple[Tensor, Tensor, Tensor]:
    """B and A turned so that they share the singular values, and these, largest first.

    The product is never made: two thin QRs leave an r x r matrix to decompose.
    """
    left, upper = torch.linalg.qr(pair.high)
    right, lower = torch.linalg.qr(pair.low.mT)
    inner, values, outer = torch.linalg.svd(upper @ lower.mT)
    root = values.sqrt()
    count = len(values)
    high = left @ (inner[:, :count] * root)
    low = (root[:, None] * outer[:count]) @ right.mT
    return high, low, values


def _check_rank(rank: int) -> None:
    if not 1 <= rank <= MOST:
        raise ValueError(f"rank {rank} is none; it is from 1 to {MOST}")


def _plain(layers: Layers, doing: str, kinds: tuple[str, ...] = ("lora",)) -> None:
    other = next((layer.kind for layer in layers.values() if layer.kind not in kinds), None)
    if other is not None:
        raise AdapterMismatch(f"a {other} cannot be {doing}; only {', '.join(kinds)} can")
