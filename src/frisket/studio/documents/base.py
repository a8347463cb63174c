"""What a mask document is, whatever its file: the contract of stills and videos."""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from frisket.masks.names import BACKGROUND
from frisket.masks.painting.strokes import IDS

Levels = NDArray[np.uint8]  # H W: ids, or grey levels of a soft plane
TruthKind = Literal["ids", "soft"]  # which of them is written to the file
HALF = 128  # a soft pixel of at least this is shown as its region's


class Conflict(Exception):
    """A change of a revision that is not the newest; `revision` is what is there now."""

    def __init__(self, revision: str) -> None:
        super().__init__("the mask was changed meanwhile, by another window or program")
        self.revision = revision


class MaskNotEditable(ValueError):
    """A mask that cannot be painted here; the message names it, the reason and the fix."""


@dataclass(frozen=True, slots=True)
class PaintRegion:
    """A region that a mask can hold; `weight` is None where no configuration gives one."""

    id: int
    name: str
    colour: tuple[int, int, int]
    weight: float | None

    def describe(self) -> dict[str, Any]:
        """As JSON for the page."""
        colour = "#{:02x}{:02x}{:02x}".format(*self.colour)
        return {"id": self.id, "name": self.name, "colour": colour, "weight": self.weight}


@dataclass(slots=True)
class MaskContent:
    """The pixels of one frame; where `soft` is the truth, ids show its strongest planes."""

    ids: Levels
    soft: dict[int, Levels] = field(default_factory=dict)
    raw: Levels | None = None  # grey levels of the file, kept where an id does not change

    def copy(self) -> "MaskContent":
        """Another, which may be written to."""
        soft = {region: plane.copy() for region, plane in self.soft.items()}
        return MaskContent(self.ids.copy(), soft, self.raw)

    def get_plane(self, number: int) -> Levels:
        """Ids, or the soft plane of a region, made blank where there was none."""
        if number == IDS:
            return self.ids
        return self.soft.setdefault(number, np.zeros_like(self.ids))


@dataclass(frozen=True, slots=True)
class Description:
    """What the page is told beside the pixels."""

    width: int
    height: int
    revision: str
    form: str
    regions: tuple[PaintRegion, ...] = ()
    background: int = 0
    truth: TruthKind = "ids"
    soft: tuple[int, ...] = ()  # regions that have a soft plane
    editable: bool = True
    reason: str = ""  # not editable
    offer: str = ""  # a folder that masks could be painted into, where there is none
    frame: int = 0
    frame_count: int = 1
    notes: tuple[str, ...] = ()  # what saving will change besides

    def describe(self) -> dict[str, Any]:
        """As JSON for the page."""
        names = {region.id: region.name for region in self.regions}
        legend = [region.describe() for region in self.regions]
        if self.background not in names:
            background_row = {"id": self.background, "name": BACKGROUND, "colour": "#000000"}
            legend.insert(0, {**background_row, "weight": 0.0})
        return {
            "width": self.width,
            "height": self.height,
            "revision": self.revision,
            "legend": legend,
            "background": self.background,
            "truth": self.truth,
            "soft": [names[region] for region in self.soft if region in names],
            "form": self.form,
            "editable": self.editable,
            "why": self.reason,
            "offer": self.offer,
            "frame": self.frame,
            "frame_count": self.frame_count,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A frame's pixels and what is to be told of them, of one moment."""

    description: Description
    content: MaskContent


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of one plane as it is to be."""

    plane: int
    x: int
    y: int
    levels: Levels


@dataclass(frozen=True, slots=True)
class MaskPatch:
    """What the page changed since a revision; `edits` are the strokes, for the log."""

    width: int
    height: int
    tiles: tuple[Tile, ...] = ()
    edits: tuple[dict[str, Any], ...] = ()

    def apply(self, content: MaskContent) -> None:
        """Lay the tiles over a frame, in place; ValueError for a frame of another size."""
        if content.ids.shape != (self.height, self.width):
            height, width = content.ids.shape
            raise ValueError(
                f"tiles of a mask of {self.width} x {self.height} pixels for one of {width} x"
                f" {height}; open it again"
            )
        for tile in self.tiles:
            high, wide = tile.levels.shape
            plane = content.get_plane(tile.plane)
            plane[tile.y : tile.y + high, tile.x : tile.x + wide] = tile.levels


@runtime_checkable
class MaskDocument(Protocol):
    """The mask of one clip. Frames count from 0; a still has one."""

    def read(self, frame: int) -> Snapshot:
        """A frame as it is now; ValueError for one beyond the clip, BadMedia for a broken file."""

    def write(self, frame: int, patch: MaskPatch, revision: str) -> str:
        """Change a frame, whole or not at all; the new revision.

        Conflict where `revision` is not the newest, MaskNotEditable where nothing can be written,
        ValueError for a patch that does not fit. When it returns, the change survives a crash.
        """


def derive_ids(soft: dict[int, Levels], shape: tuple[int, ...], background: int) -> Levels:
    """The ids that soft planes show: the strongest of at least a half, the first of equals."""
    ids = np.full(shape, background, np.uint8)
    best = np.full(shape, HALF - 1, np.uint8)
    for region, plane in soft.items():
        stronger = plane > best
        ids[stronger] = region
        best[stronger] = plane[stronger]
    return ids
