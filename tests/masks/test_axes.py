"""Wrong axes are refused in production, where nothing checks annotations: they would broadcast."""

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from frisket.grid import LatentGrid
from frisket.masks.coverage import to_latent
from frisket.masks.cut import cut_to_latent
from frisket.masks.morphology import feather, feather_cells, fill_holes, grow
from frisket.masks.read import by_level
from frisket.masks.weights import RegionWeights, describe
from frisket.media.geometry import Geometry

GRID = LatentGrid(channels=4, spatial=4, temporal=4)
TABLE = RegionWeights({"face": 1.0, "hair": 0.5, "hand": 0.2}, background=0.1, gamma=2.0)
SIZES = {"b": 2, "k": 3, "f": 2, "h": 2, "w": 3, "F": 5, "H": 8, "W": 12}


@dataclass(frozen=True)
class Numeric:
    """A function of masks, without the checks of annotations that the suite adds."""

    function: Callable[..., object]
    axes: str  # of the tensor it is given
    per_sample: Callable[[int], Tensor] | None = None  # what it takes besides, one a sample
    rest: tuple[object, ...] = ()

    def __call__(self, tensor: Tensor, samples: int = SIZES["b"]) -> object:
        besides = () if self.per_sample is None else (self.per_sample(samples),)
        owner = (TABLE,) if self.function.__qualname__.startswith("RegionWeights.") else ()
        return inspect.unwrap(self.function)(*owner, tensor, *besides, *self.rest)

    @property
    def right(self) -> Tensor:
        return torch.rand([SIZES[axis] for axis in self.axes.split()])


def flags(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.bool)


def describe_one(planes: Tensor) -> object:
    return inspect.unwrap(describe)(TABLE, [planes])


NUMERICS = {
    "weights": Numeric(RegionWeights.__call__, "b k f h w", flags),
    "raw": Numeric(RegionWeights.weigh_uncurved, "b k f h w", flags),
    "outside": Numeric(RegionWeights.outside, "b k f h w", flags),
    "feather_cells": Numeric(feather_cells, "b k f h w", lambda n: torch.full((n,), 6.0), (GRID,)),
    "describe": Numeric(describe_one, "k f h w"),
    "to_latent": Numeric(to_latent, "k F H W", rest=(GRID,)),
    "cut_to_latent": Numeric(
        cut_to_latent, "F H W", rest=(Geometry((8, 12), (8, 12), tuple(range(5))), GRID)
    ),
    "grow": Numeric(grow, "F H W", rest=(1.0,)),
    "feather": Numeric(feather, "F H W", rest=(1.0,)),
    "fill_holes": Numeric(fill_holes, "F H W"),
    "by_level": Numeric(by_level, "F H W", rest=({"face": 255},)),
}


def other_ranks(right: Tensor) -> Iterator[Tensor]:
    """Tensors of every other rank: of ones, and with one axis left out or added."""
    for rank in (rank for rank in range(7) if rank != right.ndim):
        yield right.flatten()[0].expand([1] * rank)
    for axis in range(right.ndim):
        yield right.select(axis, 0)
    for axis in range(right.ndim + 1):
        yield right.unsqueeze(axis)


def wrong(numeric: Numeric) -> Iterator[tuple[Tensor, int, str]]:
    """Other ranks, dtypes, batches and regions, with what the message says of each."""
    right, batch = numeric.right, SIZES["b"]
    yield from ((tensor, batch, "axes") for tensor in other_ranks(right))
    for dtype in (torch.uint8, torch.bool, torch.int64):
        yield right.to(dtype), batch, "floats"
    if numeric.per_sample is None:
        return
    for size, samples in itertools.permutations((1, 2, 3), 2):
        yield right[:1].expand(size, *right.shape[1:]), samples, f"batch of {size}"
    if numeric.per_sample is flags:
        for regions in (1, 2, 4):
            yield torch.rand(2, regions, 2, 2, 3), batch, f"{regions} planes"


@pytest.mark.parametrize("numeric", NUMERICS.values(), ids=NUMERICS.keys())
def test_every_wrong_rank_dtype_batch_and_region_is_refused(numeric: Numeric) -> None:
    numeric(numeric.right)
    cases = list(wrong(numeric))
    assert len(cases) > 10
    for tensor, samples, said in cases:
        with pytest.raises(ValueError, match=said):
            numeric(tensor, samples)


@pytest.mark.parametrize("name", ["weights", "raw", "outside"])
@pytest.mark.parametrize("given", [torch.ones(2), torch.ones(2, 1, dtype=torch.bool)])
def test_flags_are_one_bool_a_sample(name: str, given: Tensor) -> None:
    unwrapped = inspect.unwrap(NUMERICS[name].function)
    with pytest.raises(ValueError, match="`masked`"):
        unwrapped(TABLE, NUMERICS[name].right, given)


def test_the_message_names_the_axes_and_what_a_still_has() -> None:
    with pytest.raises(ValueError, match=r"\(2, 1, 64, 64\).*`b k f h w`.*a still has one frame"):
        NUMERICS["weights"](torch.rand(2, 1, 64, 64))
