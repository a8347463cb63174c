"""What a family says of its attention: the layers, and what each multiplied."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

# For each sample, for each phrase: the positions it takes on the text axis of the conditioning
# (dim 1 of what `embed` gives), as `frisket.attention.tokens` finds them.
PhrasePositions = Sequence[Sequence[Sequence[int]]]
Positions = tuple[int, ...]  # of one phrase on that axis; () where the prompt has it not


@dataclass(frozen=True, slots=True)
class Projections:
    """What one attention layer multiplied, after norm and rotary embedding.

    `query` are the image's rows alone, `key` and `value` all that they attend to. `text` says which
    columns of `key` are the prompt, in the order of the conditioning's text axis; `image` which are
    the image's own cells (None of a cross-attention layer). `cells` is the token grid f h w of the
    query rows, row by row: its product is their number. `present` is False where a key is padding.
    """

    query: Float[Tensor, "b n heads d"]
    key: Float[Tensor, "b m heads d"]
    value: Float[Tensor, "b m heads d"]
    text: slice
    cells: tuple[int, int, int]
    image: slice | None = None
    present: Bool[Tensor, "b m"] | None = None
    scale: float | None = None  # of the logits; None is d ** -0.5
    # What the layer gave before its out projection, heads joined: of the image's rows and of the
    # prompt's. None where the layer has no such rows (the text of a cross-attention layer).
    image_output: Float[Tensor, "b n c"] | None = None
    text_output: Float[Tensor, "b s c"] | None = None
    folded: bool = False  # frames lie in the batch, those of one sample side by side
    timestep: Tensor | None = None  # as the denoiser was told, on its own scale
    prompt: Tensor | Sequence[Tensor] | None = None  # the text as the denoiser was given it
    # Which samples of the batch the rows are, where a family calls the denoiser for some at a time.
    samples: tuple[int, ...] | None = None

    @property
    def factor(self) -> float:
        """What the logits are multiplied by."""
        return self.query.shape[-1] ** -0.5 if self.scale is None else self.scale


@dataclass(frozen=True, slots=True)
class BranchCall:
    """What a second attention beside a layer's own starts from, in one call.

    `query` are the image's rows, after their norm and before any rotary embedding: a second set of
    keys has no place in the picture. `output` is what the branch is added to: what attention gave
    the same rows before the out projection, or, where it is added later (FLUX), the picture as the
    block gave it. `cells`, `folded`, `timestep`, `prompt` and `samples` are those of `Projections`.
    `projected` are query, key and value of the same rows before their norms, of layers whose public
    adapters read them (SD3); else None.
    """

    query: Float[Tensor, "b n heads d"]
    output: Float[Tensor, "b n c"]
    cells: tuple[int, int, int]
    folded: bool = False
    timestep: Tensor | None = None
    prompt: Tensor | Sequence[Tensor] | None = None
    samples: tuple[int, ...] | None = None
    projected: tuple[Tensor, Tensor, Tensor] | None = None  # each b n heads d


# What a branch adds to `output`; None adds nothing and leaves the layer's tensors untouched.
BranchUpdate = Callable[[BranchCall], Float[Tensor, "b n c"] | None]


@dataclass(frozen=True, slots=True)
class AttentionLayer:
    """One layer whose attention to the prompt can be read.

    `tap` puts hooks on `module` (none is left when the returned function was called) and hands over
    the projections of every forward pass, as they were computed: nothing is projected twice, so
    that dropout draws and adapters are the model's own. `add_branch` puts hooks on, in the same
    way, that add to what the layer gave its image rows; None where the layer has no such place.
    """

    name: str  # of the module in the denoiser, for people: `layers` is matched with it
    module: nn.Module
    kind: Literal["cross", "joint"]
    tap: Callable[[Callable[[Projections], None]], Callable[[], None]]
    add_branch: Callable[[BranchUpdate], Callable[[], None]] | None = None


_SAMPLES: ContextVar[tuple[int, ...] | None] = ContextVar("samples", default=None)


@contextmanager
def name_samples(samples: Sequence[int]) -> Iterator[None]:
    """Say, around a call of the denoiser, which samples of the batch its rows are.

    For families that call it several times for one batch (texts of different lengths). Calls of
    one batch cover each sample once.
    """
    token = _SAMPLES.set(tuple(samples))
    try:
        yield
    finally:
        _SAMPLES.reset(token)


def get_samples() -> tuple[int, ...] | None:
    """What `name_samples` says here; None where a call is about the whole batch."""
    return _SAMPLES.get()


def mark_phrases(phrases: PhrasePositions, length: int) -> Float[Tensor, "b T s"]:
    """1 where a phrase has a position, else 0, for a text axis of `length`.

    ValueError where the samples differ in their number of phrases, or a position is not on the
    axis.
    """
    counts = {len(sample) for sample in phrases}
    if len(counts) != 1:
        raise ValueError(f"samples have {sorted(counts)} phrases: each needs the same number")
    members = torch.zeros(len(phrases), counts.pop(), length)
    for row, sample in enumerate(phrases):
        for column, positions in enumerate(sample):
            for position in positions:
                if not 0 <= position < length:
                    raise ValueError(
                        f"position {position} is not on a text axis of {length} tokens"
                    )
                members[row, column, position] = 1
    return members


def mark_positions(rows: Sequence[Sequence[int]]) -> Float[Tensor, "b s"]:
    """1 at each sample's positions, else 0; one longer than the last of them needs.

    For factors of tokens: what is beyond one is as its last, 0.
    """
    length = 2 + max((position for row in rows for position in row), default=0)
    members = torch.zeros(len(rows), length)
    for index, row in enumerate(rows):
        members[index, list(row)] = 1
    return members
