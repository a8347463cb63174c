"""What a family says for token routing: how its blocks take a part of the image's tokens."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import pad

from frisket.families.streams import DenoiserCall, Stream

Narrow = Callable[[dict[str, Any], "KeptTokens"], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class KeptTokens:
    """Which of the image's tokens one call of a denoiser carries through the routed blocks.

    `tokens` are places on the token grid (f h w, row by row), one row for each sample of the call
    or one for all of them. `call` says what the rows of each stream are.
    """

    tokens: Int[Tensor, "_ k"]
    call: DenoiserCall

    def list_rows(self, stream: Stream) -> Int[Tensor, "_ r"]:
        """Rows of a stream that stay: the kept tokens, and whatever is no token of the image.

        In the order of the sequence, the kept tokens in their own. ValueError for a stream whose
        rows the family does not state.
        """
        if stream not in self.call.sequences:
            raise ValueError(f"the call does not say what the rows of its {stream} stream are")
        parts, begin = [], 0
        for part in self.call.sequences[stream]:
            places = torch.arange(part.count, device=self.tokens.device)[None]
            parts.append(begin + (self.tokens if part.kind == "image" else places))
            begin += part.count
        batch = max(len(part) for part in parts)
        return torch.cat([part.expand(batch, -1) for part in parts], dim=1)

    def take(self, tensor: Tensor, stream: Stream, dim: int = 1) -> Tensor:
        """The rows that stay of a tensor with one row a token along `dim`.

        Dim 0 is the batch where `dim` is above 0; one of 1 is repeated where samples differ.
        ValueError where the tensor has another number of rows, and where samples keep different
        tokens and it has no batch.
        """
        rows = self.list_rows(stream)
        count = sum(part.count for part in self.call.sequences[stream])
        if tensor.shape[dim] != count:
            raise ValueError(
                f"a tensor of {tuple(tensor.shape)} has {tensor.shape[dim]} rows along dim {dim},"
                f" the {stream} stream {count}"
            )
        if len(rows) == 1:
            return tensor.index_select(dim, rows[0])
        if dim == 0:
            raise ValueError("samples keep different tokens, and this tensor is for all of them")
        tensor = tensor.expand(len(rows), *tensor.shape[1:])
        return tensor.gather(dim, _expand(rows, tensor, dim))

    def put(
        self, narrow: Tensor, full: Tensor, stream: Stream, entered: Stream | None = None
    ) -> Tensor:
        """`full` (b n c) with the rows that stayed as `narrow` (b r c) has them.

        `entered` is whose rows `full` are where that is another stream, within this one: a window
        of FLUX.2 may begin where text and image are apart and end where they are one sequence.
        ValueError where they do not follow one another in it.
        """
        if entered is not None and entered != stream:
            before, after = self._count_around(entered, stream)
            full = pad(full, (0, 0, before, after))
        rows = self.list_rows(stream).expand(len(full), -1)
        return full.scatter(1, _expand(rows, narrow, 1), narrow.to(full.dtype))

    def _count_around(self, inner: Stream, outer: Stream) -> tuple[int, int]:
        """Rows of `outer` before and after those of `inner`; all of them stay."""
        inner_rows, outer_rows = self.call.sequences[inner], self.call.sequences[outer]
        for begin in range(len(outer_rows) - len(inner_rows) + 1):
            end = begin + len(inner_rows)
            if outer_rows[begin:end] == inner_rows:
                around = outer_rows[:begin], outer_rows[end:]
                before, after = (sum(part.count for part in parts) for parts in around)
                return before, after
        raise ValueError(f"the {outer} stream does not have the rows of the {inner} stream in it")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutedBlock:
    """One block that tokens can pass by: where its hidden states are, and what goes with them.

    `stream` is whose rows they have: "image", or "joint" where text goes along. `output` is their
    place in what the block returns; None where it returns them alone. `narrow` reduces every other
    argument that has one row a token (rotary embeddings, masks, levels a token) and leaves the
    hidden states alone; it is given all arguments by name. None: nothing goes with them.
    """

    name: str
    module: nn.Module
    hidden: str = "hidden_states"
    stream: Stream = "image"
    output: int | None = None
    narrow: Narrow | None = None


@runtime_checkable
class TokenRoutes(Protocol):
    """What `Family.routes` is; the samples of a call may keep different tokens, as many each."""

    def find_patch(self, denoiser: nn.Module) -> tuple[int, int, int]:
        """Cells of the latent grid behind one token of a plain denoiser, f h w.

        A family's variants may differ in it (HunyuanVideo and 1.5). ValueError for one that has
        no blocks to route.
        """
        ...

    def list_blocks(self, denoiser: nn.Module) -> tuple[RoutedBlock, ...]:
        """The blocks of one plain denoiser (no wrapper, no `Experts`), in the order of the call.

        () for a variant that cannot (a UNet in a family that has transformers, too).
        """
        ...


def align(**places: tuple[Stream, int]) -> Narrow:
    """A `narrow` for arguments (name -> stream, dim) that are tensors, tuples of tensors, or None.

    ValueError, by name, where one has not as many rows as the stream.
    """

    def narrow(arguments: dict[str, Any], kept_tokens: KeptTokens) -> dict[str, Any]:
        result = dict(arguments)
        for name, (stream, dim) in places.items():
            try:
                result[name] = _take_rows(arguments[name], kept_tokens, stream, dim)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return result

    return narrow


def _take_rows(value: Any, kept_tokens: KeptTokens, stream: Stream, dim: int) -> Any:
    if value is None:
        return None
    if isinstance(value, tuple | list):
        return type(value)(_take_rows(part, kept_tokens, stream, dim) for part in value)
    return kept_tokens.take(value, stream, dim)


def _expand(rows: Int[Tensor, "b r"], tensor: Tensor, dim: int) -> Tensor:
    """Indices b r as wide as `tensor` is besides dim 0 and `dim`."""
    shape = [1] * tensor.ndim
    shape[0], shape[dim] = rows.shape
    sides = list(tensor.shape)
    sides[0], sides[dim] = rows.shape
    return rows.view(shape).expand(sides)


_KEPT_TOKENS: ContextVar[Int[Tensor, "_ k"] | None] = ContextVar("kept_tokens", default=None)


@contextmanager
def keep_tokens(tokens: Int[Tensor, "_ k"] | None) -> Iterator[None]:
    """Say, around `Family.predict`, which of the image's tokens are kept (None: all).

    For denoisers that leave tokens out themselves, from the first block on (MaskDiT).
    """
    token = _KEPT_TOKENS.set(tokens)
    try:
        yield
    finally:
        _KEPT_TOKENS.reset(token)


def get_kept_tokens() -> Int[Tensor, "_ k"] | None:
    """What `keep_tokens` says here: one row a sample of the family's batch, or one for all."""
    return _KEPT_TOKENS.get()
