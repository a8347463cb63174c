"""What one call of a denoiser carries through a window of its blocks, for its recomputation too."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from frisket.families.routes import KeptTokens
from frisket.families.streams import Stream

PASSAGE = "frisket_passage"  # attribute of a bare denoiser, while a call of it is routed


@dataclass(eq=False, slots=True)
class Passage:
    """The tokens that one call keeps, and the hidden states that it brought to the window."""

    kept_tokens: KeptTokens
    full: Tensor | None = None
    entered: Stream = "image"


def get_passage(model: nn.Module) -> Passage | None:
    """Of the call that a bare denoiser is in; None where it carries all tokens."""
    return model.__dict__.get(PASSAGE)


def set_passage(model: nn.Module, passage: Passage | None) -> None:
    """For the call that a bare denoiser is in, until the next `set_passage`."""
    if passage is None:
        model.__dict__.pop(PASSAGE, None)
    else:
        model.__dict__[PASSAGE] = passage


def keep_passage(model: nn.Module) -> Callable[[], AbstractContextManager[None]]:
    """Of the call it is in now, to be brought back: blocks run again are in the same call.

    Whoever runs a block again holds on to it, and lets it go with the graph of the call.
    """
    passage = get_passage(model)

    @contextmanager
    def restore() -> Iterator[None]:
        before = get_passage(model)
        set_passage(model, passage)
        try:
            yield
        finally:
            set_passage(model, before)

    return restore
