"""What every net's `compute` and `join` have in common: rows, scales, precision, what is there."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.control.base import Residual, Residuals


def unwrap_net(net: nn.Module) -> Any:
    """The net inside DistributedDataParallel and torch.compile: for its configuration."""
    inner = getattr(net, "module", net)
    return getattr(inner, "_orig_mod", inner)


def is_training(net: nn.Module) -> bool:
    """Whether any of its parameters asks for a gradient."""
    return any(value.requires_grad for value in net.parameters())


def scale_rows(value: Tensor, scale: Float[Tensor, " r"], like: Tensor) -> Tensor:
    """Each row times its scale, exactly 0 where that is 0, in the precision of `like`.

    Under autocast it stays in what the net computed in, as the denoiser's own layers do: a float32
    residual would lift what it is added to out of bfloat16, in rows without control too.
    """
    if find_autocast(like.device) is None or like.dtype != torch.float32:
        value = value.to(like.dtype)
    factor = scale.to(value.device, torch.float32).view(-1, *[1] * (value.ndim - 1))
    scaled = (value * factor).to(value.dtype)  # rounded once, as a plain number would be
    return torch.where(factor == 0, torch.zeros_like(value), scaled)


def find_autocast(device: torch.device) -> torch.dtype | None:
    """What an open region of autocast computes in, None where none is open.

    Of the meta device, which has no autocast of its own, any other device's.
    """
    kinds = ("cpu", "cuda") if device.type == "meta" else (device.type,)
    open_kinds = [kind for kind in kinds if torch.is_autocast_enabled(kind)]
    return torch.get_autocast_dtype(open_kinds[0]) if open_kinds else None


def check_rows(control: Tensor, expected: Sequence[int], reason: str) -> None:
    """ValueError where a control's rows, frames, height and width are not those of the call."""
    if [control.shape[0], *control.shape[2:]] != list(expected):
        rows, *cells = expected
        raise ValueError(
            f"control of {tuple(control.shape[2:])} (frames, rows, columns) for"
            f" {control.shape[0]} rows, where the call has {tuple(cells)} for {rows} rows: {reason}"
        )


def check_tokens(cells: tuple[int, int, int], tokens: int) -> None:
    """ValueError where a control has another number of tokens than the call."""
    count = cells[0] * cells[1] * cells[2]
    if count != tokens:
        raise ValueError(
            f"control of {cells} tokens (frames, rows, columns), where the call has {tokens}: the"
            " control must have the clip's size"
        )


def join_lists(call: Mapping[str, Any], residuals: Residuals) -> dict[str, Any]:
    """A call's arguments with lists of residuals on top of those it has, by the arguments' names.

    ValueError where the call already has another number of them: another net's of other depth.
    """
    output = drop_self(call)
    for name, added in residuals.places.items():
        values = [residual.value for residual in added]
        before = call[name]
        if before is not None:
            check_count(name, len(before), len(values))
            values = [old + new for old, new in zip(before, values, strict=True)]
        output[name] = values
    return output


def check_count(name: str, before: int, count: int) -> None:
    """ValueError where two nets give one place different numbers of residuals."""
    if before != count:
        raise ValueError(
            f"{name} has {before} residuals already and another ControlNet adds {count}: two nets"
            " go together only where they have the same number of blocks"
        )


def drop_self(call: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that a call may be made with again."""
    return {name: value for name, value in call.items() if name != "self"}


def list_residuals(
    values: Sequence[Tensor],
    scale: Float[Tensor, " r"],
    like: Tensor,
    cells: tuple[int, int, int],
    first: int = 0,
) -> tuple[Residual, ...]:
    """Residuals of a transformer's blocks, scaled, all of the same cells."""
    return tuple(Residual(scale_rows(value, scale, like), cells, first) for value in values)


def compare_configs(net: nn.Module, denoiser: nn.Module, names: Mapping[str, str]) -> str:
    """Why two configurations do not fit: the first of `names` (net's: denoiser's) that differs."""
    net_config, base_config = unwrap_net(net).config, unwrap_net(denoiser).config
    for name, other in names.items():
        value, expected = _read_value(net_config, name), _read_value(base_config, other)
        if value != expected:
            return (
                f"this ControlNet has {name} {value} and the model has {other} {expected}: it was"
                " made for another model. Check control.source and model.variant"
            )
    return ""


def _read_value(config: Mapping[str, Any], name: str) -> Any:
    value = config.get(name)
    return list(value) if isinstance(value, list | tuple) else value
