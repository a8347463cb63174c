"""Which modules of a denoiser are its blocks: what is swapped, quantised and compiled."""

from collections.abc import Iterator
from typing import Any

from torch import nn

# Attribute of a block whose weights may be away: what brings them back before a backward pass that
# enters the block from within (see families/shared/attention/taps.py).
ON_BACKWARD = "frisket_on_backward"


def blocks_of(denoiser: nn.Module) -> dict[str, nn.Module]:
    """The repeated blocks of one plain denoiser by name, in the order they are called in.

    A transformer's are the members of the lists it holds itself (`blocks`; `transformer_blocks` and
    then `single_transformer_blocks`), of the classes its own `_repeated_blocks` names where it
    names any. A UNet's are its transformer blocks, which sit deeper: those on the way down, in the
    middle, on the way up. ValueError for a model that has neither.
    """
    repeated = tuple(getattr(denoiser, "_repeated_blocks", None) or ())
    blocks = dict(_members(denoiser, repeated))
    if not blocks and repeated:
        for name in ("down_blocks", "mid_block", "up_blocks"):
            root = getattr(denoiser, name, None)
            for path, inner in root.named_modules() if root is not None else ():
                blocks |= {f"{name}.{path}.{at}": block for at, block in _members(inner, repeated)}
    if not blocks:
        raise ValueError(
            f"{type(denoiser).__name__} has no repeated blocks (no list of modules of its own, and"
            " none of the classes it names in _repeated_blocks)"
        )
    return blocks


def _members(module: nn.Module, repeated: tuple[str, ...]) -> Iterator[tuple[str, nn.Module]]:
    """Members of the module lists right under a module: of the named classes, or with layers."""
    for name, child in module.named_children():
        if isinstance(child, nn.ModuleList):
            for index, member in child.named_children():
                named = type(member).__name__ in repeated
                if named or (not repeated and _has_linear(member)):
                    yield f"{name}.{index}", member


def _has_linear(module: nn.Module) -> bool:
    return any(isinstance(inner, nn.Linear) for inner in module.modules())


def plain_tensors(value: Any) -> list[Any]:
    """The tensors with storage behind a weight: itself, or what a quantised one is made of.

    torchao's weights are wrappers around others (`__tensor_flatten__`); bitsandbytes' 4 bit ones
    carry their scales in `quant_state`, which is no tensor. Its tables of codes (1 KB) are left
    out: all layers share one.
    """
    if hasattr(value, "__tensor_flatten__"):
        names, _ = value.__tensor_flatten__()
        return [inner for name in names for inner in plain_tensors(getattr(value, name))]
    state = getattr(value, "quant_state", None)
    tensors = [value]
    while state is not None:
        tensors += [
            tensor
            for tensor in (state.absmax, state.offset)
            if tensor is not None and hasattr(tensor, "untyped_storage")
        ]
        state = state.state2
    return tensors
