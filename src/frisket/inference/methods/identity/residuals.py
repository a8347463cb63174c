"""Residuals of ControlNet-like models on a UNet's calls, without a pipeline of their own."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

from torch import Tensor, nn

from frisket.families.streams import bind_call

DOWN, MIDDLE = "down_block_additional_residuals", "mid_block_additional_residual"


@dataclass(frozen=True, slots=True)
class UNetResiduals:
    """What is added to a UNet's skip connections, in their order, and to what its middle gives.

    Each r c h w with the rows of the call and that place's channels and size.
    """

    down: tuple[Tensor, ...]
    middle: Tensor

    def change(self, edit: Callable[[Tensor], Tensor]) -> "UNetResiduals":
        """The same with each residual edited."""
        return UNetResiduals(tuple(edit(residual) for residual in self.down), edit(self.middle))


# From a UNet's arguments by name to what is added; None leaves the call as it is, bit for bit.
ComputeResiduals = Callable[[Mapping[str, Any]], UNetResiduals | None]


@contextmanager
def add_residuals(model: nn.Module, compute: ComputeResiduals) -> Iterator[None]:
    """Inside, every forward pass of a UNet (no wrapper around it) has residuals added.

    Those of several contexts, and any that the call brings along, add up. It is `forward` that is
    replaced and put back, no hook, so that methods which call it for a pass of their own
    (`combine_passes`) have the residuals of that pass and not of the one before.
    """
    own_forward = vars(model).get("forward")
    forward: Callable[..., Any] = model.forward

    @wraps(forward)
    def forward_with_residuals(*args: Any, **kwargs: Any) -> Any:
        call = bind_call(model, args, kwargs)
        residuals = compute(call)
        if residuals is None:
            return forward(*args, **kwargs)
        return forward(**join_residuals(call, residuals))

    model.forward = forward_with_residuals
    try:
        yield
    finally:
        if own_forward is None:
            del model.forward
        else:
            model.forward = own_forward


def join_residuals(call: Mapping[str, Any], residuals: UNetResiduals) -> dict[str, Any]:
    """A call's arguments with residuals on top of those it has.

    ValueError where a call has T2I-adapter features in their place, or residuals for another UNet.
    """
    if (call[DOWN] is None) != (call[MIDDLE] is None):
        raise ValueError(
            f"the denoiser was called with one of {DOWN} and {MIDDLE}: what a T2I-Adapter adds and"
            " residuals of a ControlNet do not go together"
        )
    down, middle = residuals.down, residuals.middle
    if call[DOWN] is not None:
        down = tuple(before + more for before, more in zip(call[DOWN], down, strict=True))
        middle = call[MIDDLE] + middle
    arguments = {name: value for name, value in call.items() if name != "self"}
    return {**arguments, DOWN: down, MIDDLE: middle}
