"""Carries a part of the image's tokens through a window of blocks, by hooks on the denoiser."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, compiler, nn

from frisket.families.experts import experts_of
from frisket.families.passages import Passage, get_passage, set_passage
from frisket.families.routes import KeptTokens, RoutedBlock, TokenRoutes
from frisket.families.streams import DenoiserCall, Streams
from frisket.routing.selection import TokenSelection


class Router:
    """Hooks on every expert's blocks [start, end); outside `carry` they change nothing.

    At the first block hidden states are reduced to the rows that stay, at each what goes with them,
    and after the last the other rows come back as they went in. The state of a call is let go when
    it ends; a block that is computed again has its call's own, where `run_checkpointed` does it. A
    deep copy of the denoiser is not routed. Hooks keep to the order they are put on in: a block's
    weights (block swap) may come in before or after.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        routes: TokenRoutes,
        streams: Streams,
        start: int,
        end: int,
    ) -> None:
        """Put the hooks on; negative places count from the end.

        ValueError where the window is not within the blocks (`find_window`).
        """
        self.streams = streams
        self.selection: TokenSelection | None = None
        self.handles: list[Any] = []
        for model in experts_of(denoiser).values():
            blocks = routes.list_blocks(model)
            first, last = find_window(start, end, len(blocks))
            window = blocks[first:last]
            self._add_hooks(model, window)

    @contextmanager
    def carry(self, selection: TokenSelection | None) -> Iterator[None]:
        """Inside, every call carries the selected tokens alone (None: all)."""
        before, self.selection = self.selection, selection
        try:
            yield
        finally:
            self.selection = before

    def remove(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()
        self.handles.clear()

    def _add_hooks(self, model: nn.Module, window: tuple[RoutedBlock, ...]) -> None:
        begin = model.register_forward_pre_hook(self._begin_call, with_kwargs=True)
        end = model.register_forward_hook(_finish_call, always_call=True)
        self.handles += [begin, end]
        for block in window:
            narrow = _make_narrowing(model, block, enters=block is window[0])
            self.handles.append(block.module.register_forward_pre_hook(narrow, with_kwargs=True))
        last = window[-1]
        self.handles.append(last.module.register_forward_hook(_make_widening(model, last)))

    def _begin_call(self, model: nn.Module, args: Any, kwargs: Any) -> None:
        passage = None
        if self.selection is not None:
            call = self.streams.read(model, args, kwargs)
            passage = Passage(_choose_rows(self.selection, call))
        set_passage(model, passage)


def find_window(start: int, end: int, count: int) -> tuple[int, int]:
    """Blocks [start, end) of `count`, places below 0 counted from the end.

    ValueError, with one that fits, where the window is empty or not within the blocks.
    """
    first, last = (place + count if place < 0 else place for place in (start, end))
    if 0 <= first < last <= count:
        return first, last
    fits = "start = 1 and end = -1 would fit" if count > 2 else "it is too shallow to route"
    raise ValueError(f"blocks [{start}, {end}) of {count}: {fits}")


def _finish_call(model: nn.Module, *_: Any) -> None:
    set_passage(model, None)


def _choose_rows(selection: TokenSelection, call: DenoiserCall) -> KeptTokens:
    """Of the samples that a call is about; ValueError for another grid or number of samples."""
    grids = [part.grid for part in call.sequences["image"] if part.kind == "image"]
    if grids != [selection.grid]:
        raise ValueError(f"tokens were kept of a grid {selection.grid}, and the call has {grids}")
    tokens = selection.tokens.to(call.t.device)
    if len(tokens) > 1 and call.rows is not None:
        tokens = tokens[call.rows.to(tokens.device)]
    if len(tokens) not in (1, len(call)):
        raise ValueError(f"tokens were kept of {len(tokens)} samples, and the call has {len(call)}")
    return KeptTokens(tokens, call)


def _make_narrowing(model: nn.Module, block: RoutedBlock, *, enters: bool) -> Any:
    # diffusers hands arguments over by name, and by place where it checkpoints.
    signature = inspect.signature(type(block.module).forward)

    @compiler.disable  # what is compiled is the block itself
    def narrow(module: nn.Module, args: Any, kwargs: Any) -> Any:
        passage = get_passage(model)
        if passage is None:
            return None
        binding = signature.bind(module, *args, **kwargs)
        binding.apply_defaults()
        arguments = dict(binding.arguments)
        del arguments["self"]
        if enters:
            passage.full, passage.entered = arguments[block.hidden], block.stream
            arguments[block.hidden] = passage.kept_tokens.take(passage.full, block.stream)
        if block.narrow is not None:
            arguments = block.narrow(arguments, passage.kept_tokens)
        extra = arguments.pop("kwargs", {})  # of a `forward` that takes any
        return (), {**arguments, **extra}

    return narrow


def _make_widening(model: nn.Module, block: RoutedBlock) -> Any:
    @compiler.disable
    def widen(_module: nn.Module, _args: Any, output: Any) -> Any:
        passage = get_passage(model)
        if passage is None:
            return None
        assert passage.full is not None
        narrow: Tensor = output if block.output is None else output[block.output]
        wide = passage.kept_tokens.put(narrow, passage.full, block.stream, passage.entered)
        if block.output is None:
            return wide
        return (*output[: block.output], wide, *output[block.output + 1 :])

    return widen
