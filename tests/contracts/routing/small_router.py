"""The least that carries kept tokens through a window of blocks: what the families' say is tested
with it, apart from the router that trains."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Int
from torch import Tensor, nn

from frisket.families.base import Family
from frisket.families.experts import experts_of
from frisket.families.routes import KeptTokens, RoutedBlock


class Carrier:
    """Hooks on one plain denoiser; `entered` and `left` are the hidden states of each call."""

    def __init__(self, family: Family, model: nn.Module, tokens: Int[Tensor, "_ k"]) -> None:
        self.family, self.model, self.tokens = family, model, tokens
        self.kept: KeptTokens | None = None
        self.entered: list[tuple[Tensor, RoutedBlock, KeptTokens]] = []
        self.left: list[Tensor] = []

    def hook(self, blocks: tuple[RoutedBlock, ...]) -> list[Any]:
        model, last = self.model, blocks[-1]
        handles = [model.register_forward_pre_hook(self._read, with_kwargs=True)]
        for block in blocks:
            enters = block is blocks[0]
            narrow = self._narrow(block, enters=enters)
            handles.append(block.module.register_forward_pre_hook(narrow, with_kwargs=True))
        return [*handles, last.module.register_forward_hook(self._widen(last))]

    def _read(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        call = self.family.streams.read(model, args, kwargs)
        is_own = len(self.tokens) > 1 and call.rows is not None
        self.kept = KeptTokens(self.tokens[call.rows] if is_own else self.tokens, call)

    def _narrow(self, block: RoutedBlock, *, enters: bool) -> Any:
        signature = inspect.signature(type(block.module).forward)

        def narrow(module: nn.Module, args: Any, kwargs: Any) -> Any:
            binding = signature.bind(module, *args, **kwargs)
            binding.apply_defaults()
            given = {name: value for name, value in binding.arguments.items() if name != "self"}
            assert self.kept is not None
            if enters:
                self.entered.append((given[block.hidden], block, self.kept))
                given[block.hidden] = self.kept.take(given[block.hidden], block.stream)
            return (), given if block.narrow is None else block.narrow(given, self.kept)

        return narrow

    def _widen(self, block: RoutedBlock) -> Any:
        def widen(module: nn.Module, args: Any, output: Any) -> Any:
            full, entry, kept = self.entered[-1]
            narrow = output if block.output is None else output[block.output]
            wide = kept.put(narrow, full, block.stream, entry.stream)
            self.left.append(wide)
            if block.output is None:
                return wide
            values = list(output)
            values[block.output] = wide
            return tuple(values)

        return widen


@contextmanager
def carry_tokens(
    family: Family, denoiser: nn.Module, tokens: Int[Tensor, "_ k"], window: tuple[int, int]
) -> Iterator[list[Carrier]]:
    """Inside, blocks of the window see `tokens` alone; one carrier for each expert."""
    routes = family.routes
    assert routes is not None
    handles, carriers = [], []
    for model in experts_of(denoiser).values():
        carriers.append(Carrier(family, model, tokens))
        handles += carriers[-1].hook(routes.list_blocks(model)[slice(*window)])
    try:
        yield carriers
    finally:
        for handle in handles:
            handle.remove()
