"""Places for residuals after the blocks of a Wan transformer, whose forward pass has none."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

KEY = "control_residuals"  # among a call's attention_kwargs
PLACES = "frisket_residual_places"  # attribute of a bare transformer


class _Rotary(tuple[Tensor, Tensor]):
    """A call's rotary embedding, which every block is given, with the call's residuals on it."""

    residuals: Mapping[int, Tensor]
    waiting: set[int]


class ResidualPlaces:
    """Hooks on one transformer by which `attention_kwargs["control_residuals"]` reach its blocks.

    They travel with the rotary embedding, which each block is given as an argument: a block that is
    computed again in the backward pass is handed the same, whatever was called in between.
    """

    def __init__(self) -> None:
        """Nothing is carried before `attach`."""
        self.next: Mapping[int, Tensor] | None = None
        self.rotary: _Rotary | None = None
        self.handles: list[RemovableHandle] = []

    def __getstate__(self) -> dict[str, Any]:
        """For copies: without the call, and without handles, which know the hooks by number."""
        return {**self.__dict__, "next": None, "rotary": None}

    def attach(self, transformer: Any) -> None:
        """Put the hooks on, the one that begins a call after all that there are."""
        for handle in self.handles:
            handle.remove()
        self.handles = [
            transformer.register_forward_pre_hook(self.begin, with_kwargs=True),
            transformer.rope.register_forward_hook(self.carry),
            transformer.register_forward_hook(self.finish),
        ]
        for index, block in enumerate(transformer.blocks):
            self.handles.append(block.register_forward_hook(_Addition(index)))

    def begin(self, _model: nn.Module, _args: Any, kwargs: Mapping[str, Any]) -> None:
        """Before a forward pass: what it brings along."""
        self.next = (kwargs.get("attention_kwargs") or {}).get(KEY)

    def carry(self, _rope: nn.Module, _args: Any, output: tuple[Tensor, Tensor]) -> Any:
        """What the rotary embedding gave, with the call's residuals on it."""
        self.rotary = None
        if self.next is None:
            return None
        self.rotary = rotary = _Rotary(output)
        rotary.residuals, self.next = self.next, None
        rotary.waiting = set(rotary.residuals)
        return rotary

    def finish(self, _model: nn.Module, _args: Any, _output: Any) -> None:
        """After a forward pass: RuntimeError where a residual found no block to be added after."""
        rotary, self.rotary = self.rotary, None
        if rotary is not None and rotary.waiting:
            raise RuntimeError(
                f"residuals of a ControlNet were not added after blocks {sorted(rotary.waiting)}:"
                " something else changed what the blocks are given (token routing does). Leave"
                " [control] or [routing] out"
            )


class _Addition:
    """Adds a call's residual after one block."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, _block: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        rotary = args[3] if len(args) > 3 else None
        if not isinstance(rotary, _Rotary) or self.index not in rotary.residuals:
            return None
        rotary.waiting.discard(self.index)
        return output + rotary.residuals[self.index].to(output.device)


def make_places(transformer: nn.Module) -> None:
    """Let a bare transformer take residuals; again, so that they come last, where it does."""
    places = getattr(transformer, PLACES, None)
    if places is None:
        places = ResidualPlaces()
        object.__setattr__(transformer, PLACES, places)
    places.attach(transformer)
