"""The call a denoiser is in: what it is about, for the adapters on it, until the next call."""

from collections.abc import Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from weakref import ReferenceType, ref

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from frisket.families.passages import get_passage, keep_passage
from frisket.families.routes import KeptTokens
from frisket.families.streams import DenoiserCall, Streams

CALLS = "frisket_calls"  # attribute of a bare denoiser


@dataclass(eq=False, slots=True)
class Record:
    """One call, and the factors that were laid on its rows: its recomputation sees the same."""

    call: DenoiserCall
    model: ReferenceType[nn.Module]  # the bare denoiser, which has this record
    factors: dict[Hashable, Tensor | None] = field(default_factory=dict)
    factor_states: dict[int, Any] = field(default_factory=dict)  # as they were, by their id

    def find_kept_tokens(self) -> KeptTokens | None:
        """The tokens that routed blocks of the call carry; None where they carry all."""
        model = self.model()
        passage = None if model is None else get_passage(model)
        return None if passage is None else passage.kept_tokens


class Calls:
    """Follows the calls of one bare denoiser by a hook on it.

    The last call's record stays until the next call: gradient checkpointing runs blocks again in
    the backward pass, where `run_checkpointed` brings that call's own record back.
    """

    def __init__(self, streams: Streams) -> None:
        """Nothing is followed before `watch`."""
        self.streams = streams
        self.record: Record | None = None
        self.handle: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """For copies, without the call: its tensors may hang in a graph, which cannot be copied."""
        return {**self.__dict__, "record": None}

    def watch(self, model: nn.Module) -> None:
        """Put the hook on the model; a bound method, so that a deep copy's hook fills the copy."""
        self.handle = model.register_forward_pre_hook(self._follow_call, with_kwargs=True)

    def _follow_call(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.record = Record(self.streams.read(model, args, kwargs), ref(model))

    @contextmanager
    def restore(self, record: Record | None) -> Iterator[None]:
        """Inside, the call is that of `record` once more."""
        before, self.record = self.record, record
        try:
            yield
        finally:
            self.record = before


def find_calls(model: nn.Module) -> Calls | None:
    """What follows the calls of a bare denoiser, None where nothing does."""
    return getattr(model, CALLS, None)


def follow_calls(model: nn.Module, streams: Streams) -> Calls:
    """Follow the calls of a bare denoiser; what follows it already goes on."""
    calls = find_calls(model)
    if calls is None:
        calls = Calls(streams)
        calls.watch(model)
        model.__dict__[CALLS] = calls
    return calls


def forget_calls(model: nn.Module) -> None:
    """Take the hook off a bare denoiser."""
    calls = model.__dict__.pop(CALLS, None)
    if calls is not None:
        calls.handle.remove()


def run_checkpointed(model: nn.Module, block: nn.Module, *args: Any) -> Any:
    """Gradient checkpointing of a block of `model`: run again, it is in the same call."""

    def keep_call() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        calls, restore_passage = find_calls(model), keep_passage(model)
        record = None if calls is None else calls.record

        @contextmanager
        def restore() -> Iterator[None]:
            with nullcontext() if calls is None else calls.restore(record), restore_passage():
                yield

        return nullcontext(), restore()

    # torch calls `context_fn` where the forward pass is.
    return checkpoint(block.__call__, *args, use_reentrant=False, context_fn=keep_call)
