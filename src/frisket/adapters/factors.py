"""A layer's factors as a file has them: checked, turned into peft's, cut where others fuse."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from frisket.adapters.keys import MID
from frisket.adapters.layers import MAGNITUDE, A, B, Layer
from frisket.adapters.spec import AdapterMismatch

SCALE = "dora_scale"


def as_peft(base: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a layer by peft's names and in its shapes; AdapterMismatch for what is none.

    Tucker's core is worked into A, exact up to rounding in float32 (the kernel of A is then the
    core's). DoRA's magnitudes become one an output.
    """
    renamed = dict(tensors)
    for key in ("hada_t1", "hada_t2", "lokr_t2"):
        if key in renamed:
            raise AdapterMismatch(f"{base} has {key}, Tucker's form, which peft has no place for")
    _check_shapes(base, renamed)
    if MID in renamed:
        renamed[A] = _tucker(base, renamed.pop(MID), renamed)
    for key in (SCALE, MAGNITUDE):
        if key in renamed:
            renamed[MAGNITUDE] = _magnitude(base, key, renamed.pop(key), renamed)
    return renamed


def _check_shapes(base: str, tensors: Mapping[str, Tensor]) -> None:
    for key, value in tensors.items():
        if key not in (MAGNITUDE, SCALE) and (not 2 <= value.ndim <= 5 or not value.numel()):
            raise AdapterMismatch(f"{base}: {key} is {tuple(value.shape)}, no factor's shape")
    _check_pair(base, tensors.get(A), tensors.get(B))
    _check_products(base, tensors)
    if "hada_w1_a" in tensors and "hada_w2_a" in tensors:
        _check_alike(base, tensors)


def _check_products(base: str, tensors: Mapping[str, Tensor]) -> None:
    """AdapterMismatch where two factors of a LoHa or LoKr do not multiply."""
    for first, second in (
        ("hada_w1_a", "hada_w1_b"),
        ("hada_w2_a", "hada_w2_b"),
        ("lokr_w1_a", "lokr_w1_b"),
        ("lokr_w2_a", "lokr_w2_b"),
    ):
        left, right = tensors.get(first), tensors.get(second)
        if left is None or right is None:
            continue
        if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
            raise AdapterMismatch(
                f"{base}: {first} is {tuple(left.shape)} and {second} {tuple(right.shape)}; they do"
                " not multiply"
            )


def _check_pair(base: str, low: Tensor | None, high: Tensor | None) -> None:
    """AdapterMismatch for an A and a B that are not of one layer."""
    if high is not None and any(size != 1 for size in high.shape[2:]):
        raise AdapterMismatch(f"{base}: B is {tuple(high.shape)}; its kernel is more than a point")
    if low is not None and high is not None and low.ndim != high.ndim:
        raise AdapterMismatch(
            f"{base}: A is {tuple(low.shape)} and B {tuple(high.shape)}, of different layers"
        )


def _check_alike(base: str, tensors: Mapping[str, Tensor]) -> None:
    outs = {tensors[key].shape for key in ("hada_w1_a", "hada_w2_a")}
    ins = {tensors[key].shape for key in ("hada_w1_b", "hada_w2_b") if key in tensors}
    if len(outs) > 1 or len(ins) > 1:
        raise AdapterMismatch(f"{base}: the two products of its LoHa are of different sizes")


def _tucker(base: str, core: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """A of an ordinary layer from the core (r x r and kernel) and A (r x in, a point)."""
    low = tensors.get(A)
    if low is None or low.shape[0] != core.shape[1] or low[0, 0].numel() != 1:
        raise AdapterMismatch(f"{base} has {MID} and no A that fits it")
    return torch.einsum("or...,ri->oi...", core.float(), low.float().flatten(1)).contiguous()


def _magnitude(base: str, key: str, value: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    """As peft has it: one number an output, `out` for matrices, `1 out 1 1` for kernels.

    Which axis a magnitude is on shows in its shape alone, and `1 x in` of a square layer has as
    many numbers as `out x 1`. LyCORIS and OneTrainer have a switch for the other axis. Its columns
    are measured in the base's weight, which is not here: it cannot be turned into this one.
    """
    low, high = tensors.get(A), tensors.get(B)
    if low is None or high is None:
        raise AdapterMismatch(f"{base} has {key} and no A and B; only of a lora it is known")
    outs, ins, shape = high.shape[0], low.shape[1], tuple(value.shape)
    point = (1,) * (value.ndim - 1)
    if key == MAGNITUDE and high.ndim > 2 and shape == (1, outs, *point[1:]):
        return value
    if shape == (outs, *point):
        flat = value.flatten()
        return flat if high.ndim == 2 else flat.reshape(1, -1, *[1] * (high.ndim - 2))
    if shape == (1, ins, *point[1:]):
        raise AdapterMismatch(
            f"{base}: its {key} is {' x '.join(map(str, shape))}, a magnitude for every input."
            " peft's DoRA, which Frisket trains and loads, has one for every output, and without"
            " the base's weights one cannot be turned into the other: train it again with"
            " magnitudes on outputs (wd_on_output, lora_decompose_output_axis)"
        )
    raise AdapterMismatch(
        f"{base}: {key} is {shape}, and its layer has {outs} outputs and {ins} inputs"
    )


def sizes(layer: Layer) -> tuple[int, int]:
    """Outputs and inputs of a layer, without its kernel."""
    tensors = layer.tensors
    if layer.kind == "loha":
        return tensors["hada_w1_a"].shape[0], tensors["hada_w1_b"].shape[1]
    if layer.kind == "lokr":
        outs, ins = 1, 1
        for name in ("lokr_w1", "lokr_w2"):
            whole = tensors.get(name)
            left, right = (
                (tensors[f"{name}_a"], tensors[f"{name}_b"]) if whole is None else (whole, whole)
            )
            outs, ins = outs * left.shape[0], ins * right.shape[1]
        return outs, ins
    return layer.high.shape[0], layer.low.shape[1]


def width(layer: Layer) -> int:
    """Columns of a layer's matrix: its inputs times its kernel."""
    tensors = layer.tensors
    if layer.kind == "loha":
        return tensors["hada_w1_b"][0].numel()
    if layer.kind == "lokr":
        halves = (tensors.get(n, tensors.get(f"{n}_b")) for n in ("lokr_w1", "lokr_w2"))
        return math.prod(half[0].numel() for half in halves if half is not None)
    return layer.low[0].numel()


def has_double_outputs(layer: Layer) -> bool:
    """Whether it has two outputs for an input, as the modulation of a stream's end has."""
    outs, ins = sizes(layer)
    return outs == 2 * ins


def cut(base: str, fused: Layer, outputs: Sequence[int | None]) -> list[Layer | None]:
    """A LoHa or LoKr on a fused layer as one of each part: its rows, exactly.

    The rows of a LoHa are those of both its left factors. A LoKr's are the first factor's, each as
    often as the second has: AdapterMismatch where a part does not begin at one of them.
    """
    outs, ins = sizes(fused)
    by_rule = [ins] * (len(outputs) - 1) + [outs - ins * (len(outputs) - 1)]
    parts = [by if size is None else size for size, by in zip(outputs, by_rule, strict=True)]
    if sum(parts) != outs or min(parts) <= 0:
        raise AdapterMismatch(
            f"{base} has {outs} outputs; its parts here have {' + '.join(map(str, parts))}. It was"
            " made for another model"
        )
    starts = [sum(parts[:place]) for place in range(len(parts))]
    return [
        _rows(base, fused, list(range(start, start + size)))
        for start, size in zip(starts, parts, strict=True)
    ]


def turn(base: str, layer: Layer) -> Layer:
    """With the two halves of its rows in each other's place, exactly.

    AdapterMismatch for a LoKr whose first factor has an odd number of rows.
    """
    outs, _ = sizes(layer)
    return _rows(base, layer, [*range(outs // 2, outs), *range(outs // 2)])


def _rows(base: str, layer: Layer, wanted: Sequence[int]) -> Layer:
    """The layer of these outputs alone, in this order."""
    if layer.kind == "lokr":
        return _kronecker_rows(base, layer, wanted)
    taken = torch.tensor(wanted)
    keys = {"loha": ("hada_w1_a", "hada_w2_a")}.get(layer.kind, (B,))
    tensors = {**layer.tensors, **{key: layer.tensors[key][taken] for key in keys}}
    if MAGNITUDE in tensors:
        axis = 0 if tensors[MAGNITUDE].ndim == 1 else 1
        tensors[MAGNITUDE] = tensors[MAGNITUDE].index_select(axis, taken)
    return replace(layer, tensors=tensors)


def _kronecker_rows(base: str, layer: Layer, wanted: Sequence[int]) -> Layer:
    first = "lokr_w1" if "lokr_w1" in layer.tensors else "lokr_w1_a"
    repeat = sizes(layer)[0] // layer.tensors[first].shape[0]
    blocks = list(wanted[::repeat])
    whole = [block + row for block in blocks for row in range(repeat)]
    if any(block % repeat for block in blocks) or whole != list(wanted):
        raise AdapterMismatch(
            f"{base}: its LoKr has {repeat} outputs in one piece, and diffusers has another layer"
            " within them: it cannot be cut"
        )
    taken = torch.tensor([block // repeat for block in blocks])
    return replace(layer, tensors={**layer.tensors, first: layer.tensors[first][taken]})
