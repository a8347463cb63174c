"""What the numbers of a mask's frames stand for: files to region ids and back. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LevelPlane = NDArray[np.uint8]  # H W
CodeKind = Literal["labels", "levels", "soft"]
HALF = 128  # a soft pixel of at least this belongs to its region
FINE = 256  # grey values are compared in 1/256 of a level, as masks.read does


@dataclass(frozen=True, slots=True)
class FrameCode:
    """How the files of one mask spell region ids.

    labels: one file, its numbers are the ids. levels: one file of grey levels, the nearest of
    `levels` (id to grey) wins. soft: a grey file a region, `keys` (file to id) says which.
    """

    kind: CodeKind
    levels: Mapping[int, int] = field(default_factory=dict)
    keys: Mapping[str, int] = field(default_factory=lambda: {"": 0})
    invert: bool = False
    background: int = 0

    @property
    def reading(self) -> Literal["index", "grey"]:
        """How frames of the files are decoded."""
        return "index" if self.kind == "labels" else "grey"

    @property
    def blank(self) -> int:
        """The value of a file's pixels where no region is."""
        if self.kind == "labels":
            return self.background
        if self.kind == "levels":
            return self.levels.get(self.background, 0)
        return 255 if self.invert else 0

    def to_ids(self, planes: Mapping[str, LevelPlane]) -> LevelPlane:
        """Ids H W of a frame's planes by file; of soft planes the strongest of at least a half."""
        if self.kind == "labels":
            return planes[""]
        if self.kind == "levels":
            numbers = sorted(self.levels, key=lambda number: self.levels[number])
            values = np.array([self.levels[number] for number in numbers], np.float64)
            between = np.rint((values[1:] + values[:-1]) / 2 * FINE) / FINE
            nearest = np.searchsorted(between, np.arange(256), side="right")
            return np.asarray(np.array(numbers, np.uint8)[nearest][planes[""]], np.uint8)
        first = next(iter(planes.values()))
        ids, best = np.full(first.shape, self.background, np.uint8), np.full(first.shape, HALF - 1)
        for key, number in self.keys.items():
            if key in planes:
                plane = 255 - planes[key] if self.invert else planes[key]
                stronger = plane > best
                ids[stronger], best[stronger] = number, plane[stronger]
        return ids

    def from_ids(self, ids: LevelPlane) -> dict[str, LevelPlane]:
        """Planes by file that spell these ids, hard edged; ValueError for an id without a value."""
        if self.kind == "labels":
            return {"": ids}
        if self.kind == "levels":
            table = np.zeros(256, np.uint8)
            for number, level in self.levels.items():
                table[number] = level
            strange_ids = {*np.unique(ids).tolist()} - {*self.levels}
            if strange_ids:
                raise ValueError(
                    f"the mask's levels have no value for the region {min(strange_ids)}"
                )
            return {"": table[ids]}
        full = {key: np.where(ids == number, 255, 0) for key, number in self.keys.items()}
        return {
            key: np.asarray(255 - plane if self.invert else plane, np.uint8)
            for key, plane in full.items()
        }

    def dump(self) -> dict[str, Any]:
        """As JSON, which `parse` reads."""
        return {
            "kind": self.kind,
            "levels": [[number, level] for number, level in self.levels.items()],
            "keys": dict(self.keys),
            "invert": self.invert,
            "background": self.background,
        }

    @staticmethod
    def parse(table: Mapping[str, Any]) -> "FrameCode":
        """The inverse of `dump`."""
        levels = {int(number): int(level) for number, level in table["levels"]}
        keys = {str(key): int(number) for key, number in table["keys"].items()}
        return FrameCode(
            table["kind"], levels, keys, bool(table["invert"]), int(table["background"])
        )


def pack_levels(plane: NDArray[Any]) -> LevelPlane:
    """What a reader of frames gives as bytes: indices as they are, greys in [0, 1] as 0 to 255.

    ValueError for an index over 255.
    """
    if np.issubdtype(plane.dtype, np.floating):
        return np.asarray(np.rint(np.clip(plane, 0, 1) * 255), np.uint8)
    top = int(plane.max(initial=0))
    if top > 255 or int(plane.min(initial=0)) < 0:
        raise ValueError(f"has the label {top}, and 255 is the highest that can be painted")
    return plane.astype(np.uint8)


def fit_levels(plane: LevelPlane, height: int, width: int) -> LevelPlane:
    """A plane at its clip's size, by the nearest pixel: no value comes in between."""
    high, wide = plane.shape
    if (high, wide) == (height, width):
        return plane
    rows = ((np.arange(height) + 0.5) * high / height).astype(np.intp)
    columns = ((np.arange(width) + 0.5) * wide / width).astype(np.intp)
    return plane[np.ix_(rows, columns)]
