"""Rotary embeddings that the samples of a batch share, for samples that keep different tokens."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from frisket.families.routes import KeptTokens, Narrow
from frisket.families.streams import Stream

WHOLE = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class SampleRotary:
    """Rows of a rotary embedding, each sample's own, where diffusers expects n d for all of them.

    Its processors only add axes of one to it, to multiply it with b n heads d: `apply_rotary_emb`
    by `[None, :, None, :]`, `apply_rotary_emb_qwen` by `unsqueeze(1)`. Both give b n 1 d here; any
    other use is an error.
    """

    rows: Shaped[Tensor, "b n d"]

    def __getitem__(self, index: Any) -> Shaped[Tensor, "b n 1 d"]:
        """As `apply_rotary_emb` asks for it; IndexError otherwise."""
        if index != (None, WHOLE, None, WHOLE):
            raise IndexError(f"a rotary embedding of each sample is not indexed by {index}")
        return self.rows[:, :, None]

    def unsqueeze(self, dim: int) -> Shaped[Tensor, "b n 1 d"]:
        """As `apply_rotary_emb_qwen` asks for it; IndexError otherwise."""
        if dim != 1:
            raise IndexError(f"a rotary embedding of each sample gets no axis {dim}")
        return self.rows[:, :, None]


def take_rotary(
    rotary: Shaped[Tensor, "n d"], kept: KeptTokens, stream: Stream
) -> Tensor | SampleRotary:
    """The rows that stay of an embedding with one row a token of `stream`, never renumbered.

    A tensor where all samples keep the same tokens. ValueError where `rotary` has another number
    of rows than the stream.
    """
    if len(kept.tokens) == 1:
        return kept.take(rotary, stream, 0)
    return SampleRotary(kept.take(rotary[None], stream, 1))


def align_rotary(name: str, stream: Stream, others: Narrow | None = None) -> Narrow:
    """A `narrow` for (cos, sin), each n d, in the argument `name`, after what `others` does.

    ValueError, by name, where they have not as many rows as the stream.
    """

    def narrow(given: dict[str, Any], kept: KeptTokens) -> dict[str, Any]:
        taken = dict(given) if others is None else others(given, kept)
        try:
            pair = tuple(take_rotary(rotary, kept, stream) for rotary in given[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return {**taken, name: pair}

    return narrow
