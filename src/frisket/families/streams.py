"""What a family says of its denoiser's modules: whose rows each works on, and what a call was."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from frisket.attention.base import get_samples

# Whose rows a module's input has: the picture's cells; the prompt's tokens as the blocks see them;
# both in one sequence; the prompt as it came, where the blocks see it in another order; nobody's
# (noise level, pooled text, an image encoder's tokens); those of all samples one after the other.
Stream = Literal["image", "text", "joint", "prompt", "apart", "flat"]
FrameAxis = Literal["cells", "rows", "channels"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Neighbouring rows of a sequence that are of one kind.

    Rows of the image are cells of a token grid f h w, one after the other; rows of the text are
    positions on the text axis of the conditioning, in order (unless `DenoiserCall.order` says
    otherwise), and padding after it. Padding of the image belongs to the whole of it; others
    (reference pictures) have no place on either.
    """

    kind: Literal["image", "text", "padding", "other"]
    count: int
    grid: tuple[int, int, int] | None = None


@dataclass(frozen=True, slots=True)
class DenoiserCall:
    """What one call of a denoiser was about, read from its own arguments.

    `t` is the noise level that each row of the call was told, in [0, 1]; `cells` the latent grid.
    `sequences` says what the rows of each stream are, in order; a UNet's image has none, for each
    of its layers has a resolution of its own. `text` holds each row's text embeddings as they were
    handed over, so that a negative prompt can be told from the prompt. `frames` says where latent
    frames are: among the cells, one row of the batch each, or folded into channels. `rows` are
    those of the family's batch that the call was about, where it was not all of them.
    """

    t: Float[Tensor, "b"]
    cells: tuple[int, int, int]
    text: Tensor | Sequence[Tensor]
    sequences: Mapping[Stream, tuple[Rows, ...]] = field(default_factory=dict)
    order: Int[Tensor, "b s"] | None = None  # of each row of the text stream; -1: no position
    frames: FrameAxis = "cells"
    rows: Int[Tensor, "r"] | None = None

    def __len__(self) -> int:
        """How many rows the batch of the call has."""
        return len(self.t)


@runtime_checkable
class Streams(Protocol):
    """What `Family.streams` is: whose rows modules work on, and what a call is about."""

    @property
    def uncached(self) -> Mapping[str, Any]:
        """What the public pipeline is called with so that it keeps nothing of one noise level.

        An adapter whose ranks follow the level changes all of it.
        """
        ...

    def find(self, name: str) -> Stream:
        """Whose rows a module works on; ValueError for a name that nothing is known of."""
        ...

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """What a call of the bare model with these arguments is about."""
        ...


@dataclass(frozen=True, slots=True)
class NameTable:
    """`find` by a table: the first expression that is found in a module's name decides."""

    table: tuple[tuple[str, Stream], ...]
    uncached: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def find(self, name: str) -> Stream:
        """Whose rows a module works on; ValueError for a name that nothing is known of."""
        for pattern, stream in self.table:
            if re.search(pattern, name):
                return stream
        raise ValueError(f"nothing is known of the rows that {name} works on: say it in its family")


class Unstated(NameTable):
    """Of a family that says nothing: adapters that act by noise level or place are refused."""

    def read(
        self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> DenoiserCall:
        """Refuse with a ValueError, whatever the call."""
        raise ValueError(
            f"the family of {type(model).__name__} does not say what a call is about: adapters that"
            " act by noise level or place need its `streams`"
        )


def bind_call(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a denoiser's call by name (as its class declares them), with defaults."""
    binding = inspect.signature(type(model).forward).bind(model, *args, **kwargs)
    binding.apply_defaults()
    return dict(binding.arguments)


def expand_t(timestep: Any, count: int, scale: float = 1000.0) -> Float[Tensor, "b"]:
    """Noise levels of `count` rows from a timestep on `scale`: a number, one a row, or one a token.

    Of one a token the highest counts: tokens that are handed over clean are told 0.
    """
    levels = torch.as_tensor(timestep).detach().float() / scale
    levels = levels.amax(-1) if levels.ndim > 1 else levels.reshape(-1)
    return levels.expand(count) if len(levels) == 1 else levels


def find_rows() -> Int[Tensor, "r"] | None:
    """The rows of the family's batch that calls are about here; None is all of it.

    A family says so, around calls for samples of one kind, with `attention.base.name_samples`.
    """
    samples = get_samples()
    return None if samples is None else torch.tensor(samples)
