"""Parses people one by one: each within its box, as the parsers were trained, and put back."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from frisket.maskgen.base import Box, Instance, Parser, RgbPicture, SoftMask
from frisket.maskgen.vision.classes import ClassTable, Grouping
from frisket.masks.read import BACKGROUND

OUTSIDE_BOX = (
    0.5  # what a probability is worth outside a person's own box, against a neighbour's inside
)


@runtime_checkable
class Summing(Protocol):
    """A parser that can sum its classes itself, without all of them at the picture's size."""

    def sums(
        self, pictures: Sequence[RgbPicture], weights: Float[Tensor, "r k"]
    ) -> list[Float[Tensor, "r _ _"]]:
        """`weights @ parse(picture)` for each picture."""
        ...


def parse_people(
    parser: Parser,
    pictures: Sequence[RgbPicture],
    boxes: Sequence[Sequence[Box]] | None = None,
    *,
    grouping: Grouping,
    margin: float = 0.15,
) -> list[list[Instance]]:
    """Regions of each person of each picture; people are numbered from 0 in the order of boxes.

    A box is widened on every side by `margin` of its size, parsed on its own and put back. Where
    crops overlap, a pixel is only that person's who is likelier to be there at all, which counts
    half outside the box itself. A picture whose list of boxes is empty has no people; without
    `boxes` pictures are parsed whole, and `person` is None. Background is left out. An instance's
    score is the mean probability of its region where that is the likeliest; a region that is
    nowhere the likeliest is not there.
    """
    table = grouping.table(parser.classes)
    crops_by_picture = [
        [_crop(number, box, margin, picture) for number, box in enumerate(boxes[at])]
        if boxes is not None
        else [_Crop(slice(None), slice(None), {})]
        for at, picture in enumerate(pictures)
    ]
    cut = [
        picture[crop.rows, crop.columns]
        for picture, crops in zip(pictures, crops_by_picture, strict=True)
        for crop in crops
    ]
    answers = _parse_crops(parser, cut, table)
    parsed = [
        [replace(crop, regions=next(answers)) for crop in crops] for crops in crops_by_picture
    ]
    return [
        _put_back(crops, *picture.shape[:2])
        for picture, crops in zip(pictures, parsed, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Crop:
    """The regions found within rows and columns of a picture, and whose they are."""

    rows: slice
    columns: slice
    regions: dict[str, SoftMask]  # of the crop
    box: Box | None = None
    person: int | None = None


def _crop(number: int, box: Box, margin: float, picture: RgbPicture) -> _Crop:
    high, wide, _ = picture.shape
    wider = box.loosen(2 * margin, high, wide)
    rows = slice(math.floor(wider.top), math.ceil(wider.bottom))
    columns = slice(math.floor(wider.left), math.ceil(wider.right))
    return _Crop(rows, columns, {}, box, number)


def _parse_crops(
    parser: Parser, pictures: Sequence[RgbPicture], table: ClassTable
) -> Iterator[dict[str, SoftMask]]:
    if isinstance(parser, Summing):
        for sums in parser.sums(pictures, table.weights) if pictures else ():
            yield table.regions_of(sums)
        return
    for picture in pictures:  # one at a time: every class at the picture's size is large
        (probabilities,) = parser.parse([picture])
        yield table.regions_of(torch.einsum("rk,khw->rhw", table.weights, probabilities))


def _put_back(crops: Sequence[_Crop], high: int, wide: int) -> list[Instance]:
    likeliest, owner = torch.zeros(high, wide), torch.full((high, wide), -1)
    for number, crop in enumerate(crops):
        presence = torch.stack([m for name, m in crop.regions.items() if name != BACKGROUND]).sum(0)
        if crop.box is not None:
            presence = torch.where(
                _mark_inside(crop.box, crop.rows, crop.columns), presence, OUTSIDE_BOX * presence
            )
        best, owner_here = likeliest[crop.rows, crop.columns], owner[crop.rows, crop.columns]
        wins = presence > best
        best[wins], owner_here[wins] = presence[wins], number
    return [
        instance
        for number, crop in enumerate(crops)
        for instance in _list_instances(crop, owner[crop.rows, crop.columns] == number, high, wide)
    ]


def _mark_inside(box: Box, rows: slice, columns: slice) -> Bool[Tensor, "h w"]:
    y, x = (
        torch.arange(rows.start, rows.stop) + 0.5,
        torch.arange(columns.start, columns.stop) + 0.5,
    )
    return ((y > box.top) & (y < box.bottom))[:, None] & (x > box.left) & (x < box.right)


def _list_instances(crop: _Crop, owned: Tensor, high: int, wide: int) -> Iterator[Instance]:
    names = list(crop.regions)
    planes = torch.stack([crop.regions[name] for name in names])
    likeliest = planes.argmax(0)
    for at, name in enumerate(names):
        pixels = owned & (likeliest == at)
        if name == BACKGROUND or not pixels.any():
            continue
        mask = torch.zeros(high, wide)
        mask[crop.rows, crop.columns] = planes[at] * owned
        score = float(planes[at][pixels].mean())
        yield Instance(name, mask, score, crop.box, crop.person)
