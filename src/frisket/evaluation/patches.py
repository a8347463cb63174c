"""How much of a training picture is found again in a generated one, patch by patch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.shapes import Plane

CENT = 0.01  # least share of the patches' area that must be meant


@dataclass(frozen=True, slots=True)
class Patches:
    """Features of one picture: a unit vector for each patch, and how much of it is meant."""

    features: Float[Tensor, "p d"]
    weights: Float[Tensor, " p"]

    @property
    def empty(self) -> bool:
        """Whether hardly anything is meant."""
        return float(self.weights.mean()) < CENT


def weigh_patches(features: Float[Tensor, "p d"], plane: Plane, rows: int, columns: int) -> Patches:
    """Features in reading order of a grid of `rows` x `columns`, weighted by a plane of one frame.

    A patch counts by the share of it that the plane covers.
    """
    cells = functional.interpolate(plane[None], (rows, columns), mode="area").flatten()
    return Patches(functional.normalize(features.float(), dim=-1), cells.float())


def match_patches(picture: Patches, training: Patches) -> float:
    """How well each meant patch of `training` is matched by its best patch in `picture`.

    The mean cosine, weighted by what is meant, in [-1, 1]; 1 where all of it is there again,
    wherever it lies. What else the picture shows does not count. ValueError where nothing is meant.
    """
    if training.empty:
        raise ValueError("patches: nothing of the training picture is meant")
    best = (training.features @ picture.features.T).amax(1)
    return float((best * training.weights).sum() / training.weights.sum())


def cosine(first: Float[Tensor, " d"], second: Float[Tensor, " d"]) -> float:
    """Cosine of two embeddings, in [-1, 1]."""
    return float(torch.nn.functional.cosine_similarity(first.float(), second.float(), dim=0))
