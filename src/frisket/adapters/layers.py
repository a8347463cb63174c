"""One adapted layer apart from any model: its tensors, rank and alpha; fused, split, made alike."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from frisket.adapters.spec import AdapterKind, AdapterMismatch, LoraSpec

A, B, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"


@dataclass(frozen=True, slots=True)
class Layer:
    """One adapted layer: its form, its tensors by peft's names, and what scales them.

    `rank` 0 is a LoKr of two whole factors: it has none, and no scale but 1. `alpha` None: nobody
    says, so the scale alpha / rank is 1.
    """

    kind: AdapterKind
    tensors: Mapping[str, Tensor]
    rank: int
    alpha: float | None = None

    @property
    def scale(self) -> float:
        """What the product of the factors is multiplied by."""
        return 1.0 if self.alpha is None or not self.rank else self.alpha / self.rank

    @property
    def low(self) -> Tensor:
        """A, r x in (and kernel)."""
        return self.tensors[A]

    @property
    def high(self) -> Tensor:
        """B, out x r (and a kernel of ones)."""
        return self.tensors[B]


Layers = dict[str, Layer]  # by diffusers' name of the layer


def layer_of(name: str, tensors: Mapping[str, Tensor], alpha: float | None, rank: int = 0) -> Layer:
    """A layer of what a file holds for it; `rank` where its tensors do not say (LoKr).

    AdapterMismatch where a factor is missing or they do not fit one another.
    """
    if any(key.startswith("hada_") for key in tensors):
        _complete(name, tensors, ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"))
        return Layer("loha", tensors, int(tensors["hada_w1_b"].shape[0]), alpha)
    if any(key.startswith("lokr_") for key in tensors):
        return _build_lokr(name, tensors, alpha, rank)
    dora = MAGNITUDE in tensors
    _complete(name, tensors, (A, B, MAGNITUDE) if dora else (A, B))
    own = int(tensors[A].shape[0])
    if tensors[B].shape[1] != own:
        raise AdapterMismatch(
            f"{name}: A has rank {own}, B has rank {tensors[B].shape[1]}; the file is damaged"
        )
    return Layer("dora" if dora else "lora", tensors, own, alpha)


def _build_lokr(name: str, tensors: Mapping[str, Tensor], alpha: float | None, rank: int) -> Layer:
    """A LoKr, each of whose two factors is whole or itself a product; else `rank` is its rank."""
    factors = [
        part if part in tensors else f"{part}_{end}"
        for part in ("lokr_w1", "lokr_w2")
        for end in ("a", "b")
    ]
    _complete(name, tensors, factors)
    own = [int(tensors[key].shape[0]) for key in factors if key.endswith("_b")]
    return Layer("lokr", tensors, own[-1] if own else rank, alpha)


def _complete(name: str, tensors: Mapping[str, Tensor], wanted: Sequence[str]) -> None:
    lost = [key for key in wanted if key not in tensors]
    more = [key for key in tensors if key not in wanted]
    if lost or more:
        fault = f"lacks {lost[0]}" if lost else f"has {more[0]}, which Frisket does not know"
        raise AdapterMismatch(f"{name} {fault}")


def uniform(layers: Layers, rank: int = 0, alpha: float | None = None) -> tuple[Layers, LoraSpec]:
    """The same adapter with one rank and one alpha everywhere, and its spec (targets: its layers).

    `rank` and `alpha` are those of an adapter none of whose layers says its rank (LoKr).

    lora and dora: lower ranks are filled up with zeros, which is exact. Where layers differ in
    alpha / rank it is multiplied into B, exact up to rounding in float32, and alpha becomes the
    rank. loha and lokr cannot be made alike: AdapterMismatch.
    """
    kinds = {layer.kind for layer in layers.values()}
    if len(kinds) != 1:
        raise AdapterMismatch(f"holds layers of several forms: {', '.join(sorted(kinds))}")
    kind = next(iter(kinds))
    ranked = [layer for layer in layers.values() if layer.rank]
    if ranked and kind in ("lora", "dora"):
        alike, rank, alpha = _level_ranks(layers)
    else:
        if ranked:
            rank, alpha = _find_size(kind, ranked)
        elif not rank:
            raise AdapterMismatch("does not say its rank and alpha")
        alike = {name: whole(layer, rank, alpha) for name, layer in layers.items()}
    return alike, LoraSpec(kind, rank, alpha, 0.0, tuple(sorted(layers)))


def _find_size(kind: AdapterKind, ranked: Sequence[Layer]) -> tuple[int, float | None]:
    """The one rank and alpha of all layers of a loha or lokr; AdapterMismatch where they differ."""
    if len({layer.rank for layer in ranked}) > 1 or len({layer.scale for layer in ranked}) > 1:
        raise AdapterMismatch(
            f"has several ranks or alphas; Frisket continues a {kind} file of one of each only"
        )
    return ranked[0].rank, next(iter({layer.alpha for layer in ranked}))


def _level_ranks(layers: Layers) -> tuple[Layers, int, float | None]:
    """The layers of a lora or dora at their highest rank and at one alpha, and these two."""
    rank = max(layer.rank for layer in layers.values())
    scales = {layer.scale for layer in layers.values()}
    first = next(iter(scales))
    if not all(math.isclose(scale, first, rel_tol=1e-6) for scale in scales):
        alpha = float(rank)
        folded = {
            name: replace(pad(fold(layer), rank), alpha=alpha) for name, layer in layers.items()
        }
        return folded, rank, alpha
    same = len({layer.rank for layer in layers.values()}) == 1
    alphas = {layer.alpha for layer in layers.values()}
    shared = next(iter(alphas)) if same else first * rank
    padded = {name: replace(pad(layer, rank), alpha=shared) for name, layer in layers.items()}
    return padded, rank, shared


def whole(layer: Layer, rank: int, alpha: float | None) -> Layer:
    """A LoKr of two whole factors is not scaled by others; peft scales it: divided out here."""
    if layer.rank:
        return layer
    scale = 1.0 if alpha is None else alpha / rank
    first = layer.tensors["lokr_w1"] / scale if scale != 1 else layer.tensors["lokr_w1"]
    return Layer("lokr", {**layer.tensors, "lokr_w1": first}, rank, alpha)


def pad(layer: Layer, rank: int) -> Layer:
    """The same lora or dora at a higher rank: zero rows and columns; alpha / rank stays."""
    more = rank - layer.rank
    if not more:
        return layer
    low, high = layer.low, layer.high
    low = torch.cat([low, low.new_zeros(more, *low.shape[1:])])
    high = torch.cat([high, high.new_zeros(high.shape[0], more, *high.shape[2:])], 1)
    alpha = None if layer.alpha is None else layer.scale * rank
    return Layer(layer.kind, {**layer.tensors, A: low, B: high}, rank, alpha)


def fold(layer: Layer) -> Layer:
    """The same lora or dora with alpha / rank multiplied into B (float32), and alpha the rank."""
    if layer.scale == 1:
        return replace(layer, alpha=float(layer.rank))
    high = layer.high.float() * layer.scale
    return Layer(layer.kind, {**layer.tensors, B: high}, layer.rank, float(layer.rank))


def rescale(layer: Layer, spec: LoraSpec) -> Layer:
    """The same lora or dora at the alpha of `spec`, whose rank it has: B is divided accordingly."""
    high = layer.high.float() * (layer.scale * spec.rank / spec.scale)
    return Layer(layer.kind, {**layer.tensors, B: high}, layer.rank, spec.alpha)


def fit_spec(layer: Layer, own: LoraSpec) -> Layer:
    """The same layer at the alpha of `own`, whose rank it has (or none, being a LoKr's factors).

    loha and a lokr that has a rank are left at their own alpha where it is another one.
    """
    if not layer.rank:
        return whole(layer, own.rank, own.alpha)
    if math.isclose(layer.scale, own.scale / own.rank, rel_tol=1e-6):
        return replace(layer, alpha=own.alpha)
    return rescale(layer, own) if layer.kind in ("lora", "dora") else layer


def fuse(name: str, parts: Sequence[Layer | None], outputs: Sequence[int | None]) -> Layer:
    """One layer of the parts that the original fuses along its outputs, in their order.

    A: the parts' stacked, n r rows. B: block-diagonal. alpha is n times the parts', so that alpha /
    rank stays. A part that is not adapted (None) has zeros, for which `outputs` must say its size.
    AdapterMismatch where the form cannot be fused (loha, lokr, dora of some parts only).
    """
    there = [part for part in parts if part is not None]
    _check_fusable(name, there, len(parts))
    alike = _alike(there)
    rank, example = alike[0].rank, alike[0]
    lows, rows = [], []
    remaining = iter(alike)
    for place, part in enumerate(parts):
        layer = next(remaining) if part is not None else None
        size = outputs[place] if layer is None else layer.high.shape[0]
        if size is None:
            raise AdapterMismatch(
                f"{name}: part {place + 1} of {len(parts)} of a fused layer has no adapter, and its"
                " size is known to the model only; write diffusers keys, or train all parts"
            )
        block = example.high.new_zeros(size, rank * len(parts), *example.high.shape[2:])
        if layer is not None:
            block[:, place * rank : (place + 1) * rank] = layer.high
        lows.append(torch.zeros_like(example.low) if layer is None else layer.low)
        rows.append(block)
    tensors = {A: torch.cat(lows), B: torch.cat(rows)}
    if example.kind == "dora":
        tensors[MAGNITUDE] = torch.cat([layer.tensors[MAGNITUDE].flatten() for layer in alike])
    alpha = None if example.alpha is None else example.alpha * len(parts)
    return Layer(example.kind, tensors, rank * len(parts), alpha)


def _check_fusable(name: str, there: Sequence[Layer], count: int) -> None:
    """AdapterMismatch unless the adapted ones of `count` parts can become one layer."""
    kind, all_there = there[0].kind, len(there) == count
    several = len({part.kind for part in there}) > 1
    if several or kind in ("loha", "lokr") or (kind == "dora" and not all_there):
        of = "" if all_there or kind != "dora" else " of some of its parts only"
        raise AdapterMismatch(
            f"{name}: the original model fuses {count} layers there, and a {kind}{of} cannot"
            " be written for them"
        )


def _alike(parts: Sequence[Layer]) -> list[Layer]:
    """Of one rank and one alpha."""
    if len({(part.rank, part.alpha) for part in parts}) == 1:
        return list(parts)
    levelled, _ = uniform({str(place): part for place, part in enumerate(parts)})
    return list(levelled.values())


def split(
    name: str, fused: Layer, outputs: Sequence[int | None], rank: int = 0
) -> list[Layer | None]:
    """The parts of a fused layer: the inverse of `fuse`, bit for bit; absent parts come back None.

    A B that is no block-diagonal (trained on the fused layer) is cut by rows, and every part gets
    the whole A: the same function. `rank` is the parts', where the file says so. Where `outputs`
    does not say the sizes, all parts but the last have as many outputs as there are inputs.
    AdapterMismatch where the sizes do not add up, and for loha and lokr.
    """
    if fused.kind in ("loha", "lokr"):
        raise AdapterMismatch(
            f"{name}: a {fused.kind} on a layer that diffusers has in {len(outputs)} parts cannot"
            " be split"
        )
    sizes = _sizes(name, fused, outputs)
    count = len(sizes)
    rows = torch.split(fused.high, sizes)
    magnitudes: Sequence[Tensor | None] = [None] * count
    if fused.kind == "dora":
        magnitudes = torch.split(fused.tensors[MAGNITUDE].flatten(), sizes)
    parts: list[Layer | None] = []
    if not _diagonal(rows, fused.rank, rank):
        for block, magnitude in zip(rows, magnitudes, strict=True):
            parts.append(_part(fused, fused.low.clone(), block.clone(), fused.alpha, magnitude))
        return parts
    part_rank = fused.rank // count
    alpha = None if fused.alpha is None else fused.alpha / count
    for place, (block, magnitude) in enumerate(zip(rows, magnitudes, strict=True)):
        window = slice(place * part_rank, (place + 1) * part_rank)
        low, high = fused.low[window].clone(), block[:, window].clone()
        absent = fused.kind == "lora" and not low.any() and not high.any()
        parts.append(None if absent else _part(fused, low, high, alpha, magnitude))
    return parts


def _part(
    fused: Layer, low: Tensor, high: Tensor, alpha: float | None, magnitude: Tensor | None
) -> Layer:
    more = {} if magnitude is None else {MAGNITUDE: magnitude.clone()}
    return Layer(fused.kind, {A: low, B: high, **more}, int(low.shape[0]), alpha)


def _sizes(name: str, fused: Layer, outputs: Sequence[int | None]) -> list[int]:
    rows, inputs = int(fused.high.shape[0]), int(fused.low.shape[1])
    by_rule = [inputs] * (len(outputs) - 1) + [rows - inputs * (len(outputs) - 1)]
    sizes = [by if size is None else size for size, by in zip(outputs, by_rule, strict=True)]
    if sum(sizes) != rows or min(sizes) <= 0:
        raise AdapterMismatch(
            f"{name} has {rows} outputs; its parts here have {' + '.join(map(str, sizes))}. It was"
            " made for another model"
        )
    return sizes


def _diagonal(rows: Sequence[Tensor], rank: int, parts_rank: int) -> bool:
    """Whether B is zero off its blocks; an all-zero B is so only where the file says its rank."""
    count = len(rows)
    if rank % count or (parts_rank and parts_rank * count != rank):
        return False
    part_rank = rank // count
    off = any(
        block[:, : place * part_rank].any() or block[:, (place + 1) * part_rank :].any()
        for place, block in enumerate(rows)
    )
    return not off and (bool(parts_rank) or any(block.any() for block in rows))


def commonest(layers: Layers) -> str:
    """Ranks and alphas in words: `rank 16, alpha 8` or `ranks 8 (40), 16 (2)`."""
    words = []
    for word, values in (
        ("rank", Counter(layer.rank for layer in layers.values() if layer.rank)),
        ("alpha", Counter(_alpha(layer) for layer in layers.values() if layer.rank)),
    ):
        if len(values) == 1:
            words.append(f"{word} {next(iter(values))}")
        elif values:
            counts = ", ".join(f"{value} ({times})" for value, times in values.most_common(4))
            words.append(f"{word}s {counts}")
    return ", ".join(words) or "no rank"


def _alpha(layer: Layer) -> str:
    return f"{layer.rank if layer.alpha is None else layer.alpha:g}"
