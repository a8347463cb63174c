"""Parsers whose model gives logits of fixed classes: softmax at the picture's size, in bands."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.maskgen.base import BackendUnusable, RgbPicture
from frisket.maskgen.vision.classes import sum_softmax
from frisket.maskgen.vision.loading import run_halving
from frisket.maskgen.vision.preprocess import Preprocessing, pixels

Sums = list[Float[Tensor, "r _ _"]]  # one a picture, each at its picture's size

BATCH = 4


class LogitParser:
    """`model` maps b 3 h w of `dtype` to b k h' w' logits of `classes`."""

    kind = "a model for semantic segmentation"  # what is wanted, said where another one was given

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        classes: tuple[str, ...],
        how: Preprocessing,
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.model, self.classes, self.how = model, classes, how
        self.device, self.dtype = device, dtype

    def parse(self, pictures: Sequence[RgbPicture]) -> list[Float[Tensor, "k _ _"]]:
        """Softmax of the logits at the picture's size. `sums` takes a fraction of the memory."""
        return self.sums(pictures, torch.eye(len(self.classes)))

    def sums(self, pictures: Sequence[RgbPicture], weights: Float[Tensor, "r k"]) -> Sums:
        """`weights @ parse(picture)` for each, never holding every class at the picture's size.

        BackendUnusable where the model answers another number of classes than it was loaded with.
        """
        return list(run_halving(lambda part: self._sum_batch(part, weights), pictures, BATCH))

    @torch.inference_mode()
    def _sum_batch(self, pictures: Sequence[RgbPicture], weights: Float[Tensor, "r k"]) -> Sums:
        batch = torch.cat([pixels(picture, self.how) for picture in pictures])
        logits = self.model(batch.to(self.device, self.dtype))
        if logits.shape[1] != len(self.classes):
            raise BackendUnusable(
                f"the model tells {logits.shape[1]} classes apart where {len(self.classes)} were"
                f" expected: give {self.kind}"
            )
        table = weights.to(self.device)
        return [
            sum_softmax(picture_logits, table, *picture.shape[:2]).cpu()
            for picture_logits, picture in zip(logits, pictures, strict=True)
        ]
