"""What a projection reads of a picture, and how that is kept as one row."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ReferenceSizes:
    """The shape of what is read of one picture.

    `reads`: of an embedding its width, of patches their number and width. `maps` are the shapes
    c h w of what the stages of a recognition network made of the face, for those that read them
    beside the embedding: then a row holds all of it, one after the other.
    """

    reads: tuple[int, ...]
    maps: tuple[tuple[int, int, int], ...] = ()

    @property
    def row(self) -> tuple[int, ...]:
        """The shape of a row."""
        return (self.reads[-1] + sum(map(prod, self.maps)),) if self.maps else self.reads

    def pack(
        self, embedding: Float[Tensor, " d"], maps: Sequence[Float[Tensor, "_ _ _"]]
    ) -> Float[Tensor, " n"]:
        """An embedding and its maps as a row; ValueError for maps of other shapes."""
        shapes = tuple(tuple(plane.shape) for plane in maps)
        if shapes != self.maps or tuple(embedding.shape) != self.reads:
            raise ValueError(
                f"an embedding of {tuple(embedding.shape)} with maps of {shapes}, where there are"
                f" {self.reads} and {self.maps}"
            )
        return torch.cat([embedding, *(plane.flatten() for plane in maps)])

    def unpack(
        self, rows: Float[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b d"], list[Float[Tensor, "b _ _ _"]]]:
        """The embeddings and the maps of rows; the inverse of `pack`."""
        embeddings, *maps = rows.split([self.reads[-1], *map(prod, self.maps)], dim=1)
        return embeddings, [
            plane.unflatten(1, shape) for plane, shape in zip(maps, self.maps, strict=True)
        ]
