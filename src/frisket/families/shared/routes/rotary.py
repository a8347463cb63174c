"""Rotary embeddings that the samples of a batch share, for samples that keep different tokens."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from frisket.families.routes import KeptTokens, Narrow
from frisket.families.streams import Stream

EVERY_ROW = slice(None)


@dataclass(frozen=True, slots=True, eq=False)
class SampleRotary:
    """Rows of a rotary embedding, each sample's own, where diffusers expects n d for all of them.

    Its processors only add axes of one to it, to multiply it with b n heads d: `apply_rotary_emb`
    by `[None, :, None, :]`, `apply_rotary_emb_qwen` by `unsqueeze(1)`. Both give b n 1 d here; any
    other use is an error.
    """

    rows: Shaped[Tensor, "b n d"]

    def __getitem__(self, index: Any) -> Tensor:
        """As `apply_rotary_emb` asks for it, b n 1 d; IndexError otherwise."""
        if index != (None, EVERY_ROW, None, EVERY_ROW):
            raise IndexError(f"a rotary embedding of each sample is not indexed by {index}")
        return self.rows[:, :, None]

    def unsqueeze(self, dim: int) -> Tensor:
        """As `apply_rotary_emb_qwen` asks for it, b n 1 d; IndexError otherwise."""
        if dim != 1:
            raise IndexError(f"a rotary embedding of each sample gets no axis {dim}")
        return self.rows[:, :, None]


def take_rotary(
    rotary: Shaped[Tensor, "n d"], kept_tokens: KeptTokens, stream: Stream
) -> Tensor | SampleRotary:
    """The rows that stay of an embedding with one row a token of `stream`, never renumbered.

    A tensor where all samples keep the same tokens. ValueError where `rotary` has another number
    of rows than the stream.
    """
    if len(kept_tokens.tokens) == 1:
        return kept_tokens.take(rotary, stream, 0)
    return SampleRotary(kept_tokens.take(rotary[None], stream, 1))


def align_rotary(name: str, stream: Stream, before: Narrow | None = None) -> Narrow:
    """A `narrow` for (cos, sin), each n d, in the argument `name`, after what `before` does.

    ValueError, by name, where they have not as many rows as the stream.
    """

    def narrow(arguments: dict[str, Any], kept_tokens: KeptTokens) -> dict[str, Any]:
        result = dict(arguments) if before is None else before(arguments, kept_tokens)
        try:
            pair = tuple(take_rotary(rotary, kept_tokens, stream) for rotary in arguments[name])
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return {**result, name: pair}

    return narrow
