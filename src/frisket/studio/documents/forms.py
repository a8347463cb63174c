"""The forms a mask file has, and each as ids or soft planes and back. Numpy and Pillow alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frisket.maskgen.files.label_maps import extend_legend, read_legend, save_labels
from frisket.masks.names import BACKGROUND, WHOLE
from frisket.media.images import open_image, read
from frisket.media.paths import BadMedia
from frisket.studio.documents.base import (
    Levels,
    MaskContent,
    MaskNotEditable,
    PaintRegion,
    TruthKind,
    derive_ids,
)

FINE = 256  # as masks.read: grey values are compared in 1/256 of a level
BRIEF = 3  # unknown values named


@runtime_checkable
class PaintForm(Protocol):
    """How one kind of mask file is read and written. Keys of files are WHOLE or region names."""

    @property
    def name(self) -> str:
        """What the page and the history call it."""

    @property
    def truth(self) -> TruthKind:
        """Whether ids or soft planes are what is written."""

    @property
    def regions(self) -> tuple[PaintRegion, ...]:
        """What can be painted, by number."""

    @property
    def background(self) -> int:
        """The id of what no region covers."""

    def decode(self, files: Mapping[str, Path], shape: tuple[int, int]) -> MaskContent:
        """The pixels; blank of `shape` where no file is. BadMedia, MaskNotEditable for the odd."""

    def encode(
        self, content: MaskContent, before: MaskContent, present: Sequence[str]
    ) -> dict[str, bytes]:
        """The files that content comes to; ValueError for an id that has no place in them."""


@dataclass(frozen=True, slots=True)
class LabelForm:
    """A palette or label picture: the index of a pixel is its id."""

    regions: tuple[PaintRegion, ...]
    background: int = 0
    legend_file: Path | None = None  # extended by regions that are painted for the first time
    name: str = "labels"
    truth: TruthKind = "ids"

    def decode(self, files: Mapping[str, Path], shape: tuple[int, int]) -> MaskContent:
        """Indices as ids; MaskNotEditable for an index over 255."""
        path = files.get(WHOLE)
        if path is None:
            return MaskContent(np.full(shape, self.background, np.uint8))
        with open_image(path) as image:
            indices = read(image, path, "index")
        if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) <= 255:
            raise MaskNotEditable(
                f"{path}: has the index {int(indices.max())}, and 255 is the highest that can be"
                " painted; number its regions anew"
            )
        return MaskContent(indices.astype(np.uint8))

    def encode(
        self, content: MaskContent, before: MaskContent, present: Sequence[str]
    ) -> dict[str, bytes]:
        """One PNG of mode P, exactly as `frisket masks` writes it."""
        legend = self._settle_legend(content.ids)
        if (stranger := _find_stranger(content.ids, legend)) is not None:
            raise ValueError(
                f"the mask holds the index {stranger}, which is no region of {dict(legend)}; paint"
                " it over, or give it a name in the legend"
            )
        stream = BytesIO()
        save_labels(stream, content.ids, legend)
        return {WHOLE: stream.getvalue()}

    def _settle_legend(self, ids: Levels) -> dict[str, int]:
        """The legend that goes into the file, extended where a new region is painted."""
        numbers = {region.name: region.id for region in self.regions if region.id}
        if self.legend_file is None:
            return numbers
        legend = read_legend(self.legend_file)
        if _find_stranger(ids, legend) is not None:
            legend = extend_legend(self.legend_file, _list_new(self.regions, ids))
        if moved_names := [
            name for name, index in legend.items() if numbers.get(name, index) != index
        ]:
            raise ValueError(
                f"{self.legend_file}: has other numbers for {', '.join(moved_names)} than when the"
                " mask was opened; open it again"
            )
        return legend


def _list_new(regions: Sequence[PaintRegion], ids: Levels) -> list[str]:
    """Names up to the highest that is painted: later ones would take the number of earlier."""
    top = int(ids.max(initial=0))
    return [region.name for region in regions if 0 < region.id <= top and region.name != BACKGROUND]


@dataclass(frozen=True, slots=True)
class ColourForm:
    """A coloured picture: exact colours stand for regions."""

    regions: tuple[PaintRegion, ...]
    codes: Mapping[int, int]  # id to colour, red << 16 | green << 8 | blue
    background: int = 0
    name: str = "colours"
    truth: TruthKind = "ids"

    def decode(self, files: Mapping[str, Path], shape: tuple[int, int]) -> MaskContent:
        """Colours as ids; MaskNotEditable for a colour that the legend lacks."""
        path = files.get(WHOLE)
        if path is None:
            return MaskContent(np.full(shape, self.background, np.uint8))
        with open_image(path) as image:
            rgb = read(image, path, "stored").astype(np.int32)
        codes = (rgb[..., 0] << 16) + (rgb[..., 1] << 8) + rgb[..., 2]
        ids, known_pixels = np.full(codes.shape, self.background, np.uint8), codes == 0
        for number, code in self.codes.items():
            ids[codes == code] = number
            known_pixels |= codes == code
        if not known_pixels.all():
            strange_codes = np.unique(codes[~known_pixels])[:BRIEF]
            examples = ", ".join(f"({c >> 16}, {c >> 8 & 255}, {c & 255})" for c in strange_codes)
            raise MaskNotEditable(
                f"{path}: has colours that the legend lacks, such as {examples}; add them to"
                " `masks.legend`, or save the mask without soft edges"
            )
        return MaskContent(ids)

    def encode(
        self, content: MaskContent, before: MaskContent, present: Sequence[str]
    ) -> dict[str, bytes]:
        """One RGB PNG, each region in its own colour of the legend."""
        table = np.zeros((256, 3), np.uint8)
        codes = {self.background: 0, **self.codes}
        for number, code in codes.items():
            table[number] = code >> 16, code >> 8 & 255, code & 255
        _check_ids(content.ids, codes)
        return {WHOLE: _save(Image.fromarray(table[content.ids]))}


@dataclass(frozen=True, slots=True)
class LevelForm:
    """A grey picture whose levels stand for regions: the nearest wins, a tie goes to the higher."""

    regions: tuple[PaintRegion, ...]
    levels: Mapping[int, int]  # id to grey level, background too where it has one
    background: int = 0
    name: str = "levels"
    truth: TruthKind = "ids"

    def decode(self, files: Mapping[str, Path], shape: tuple[int, int]) -> MaskContent:
        """The nearest level of every pixel, as masks.read has it."""
        path = files.get(WHOLE)
        if path is None:
            return MaskContent(np.full(shape, self.background, np.uint8))
        grey = _read_grey(path)
        numbers = sorted(self.levels, key=lambda number: self.levels[number])
        values = np.array([self.levels[number] for number in numbers], np.float32)
        between = (values[1:] + values[:-1]) / 2
        fine = np.rint(grey * np.float32(255 * FINE)) / FINE
        nearest = np.searchsorted(between, fine, side="right")
        ids = np.array(numbers, np.uint8)[nearest]
        return MaskContent(ids, raw=np.rint(grey * 255).astype(np.uint8))

    def encode(
        self, content: MaskContent, before: MaskContent, present: Sequence[str]
    ) -> dict[str, bytes]:
        """One grey PNG; pixels whose region is as before keep their level, soft edges included."""
        _check_ids(content.ids, self.levels)
        table = np.zeros(256, np.uint8)
        for number, level in self.levels.items():
            table[number] = level
        grey = table[content.ids]
        if before.raw is not None:
            same_pixels = content.ids == before.ids
            grey[same_pixels] = before.raw[same_pixels]
        return {WHOLE: _save(Image.fromarray(grey))}


@dataclass(frozen=True, slots=True)
class SoftForm:
    """Grey planes: one file for the one region there is, or one a region."""

    regions: tuple[PaintRegion, ...]
    files: Mapping[str, int]  # key to region
    invert: bool = False
    background: int = 0
    name: str = "grey"
    truth: TruthKind = "soft"

    def decode(self, files: Mapping[str, Path], shape: tuple[int, int]) -> MaskContent:
        """Grey levels as planes, and the ids they show."""
        soft: dict[int, Levels] = {}
        for key, number in self.files.items():
            if (path := files.get(key)) is None:
                soft[number] = np.zeros(shape, np.uint8)
                continue
            plane = np.rint(_read_grey(path) * 255).astype(np.uint8)
            soft[number] = 255 - plane if self.invert else plane
        shapes = {plane.shape for plane in soft.values()}
        if len(shapes) > 1:
            raise MaskNotEditable(
                f"the planes of {', '.join(files)} have different sizes; bring them to one"
            )
        return MaskContent(derive_ids(soft, shapes.pop(), self.background), soft)

    def encode(
        self, content: MaskContent, before: MaskContent, present: Sequence[str]
    ) -> dict[str, bytes]:
        """A grey PNG of each plane that is not empty, has a file already, or is the only one."""
        if strange_planes := set(content.soft) - set(self.files.values()):
            raise ValueError(
                f"the mask has no plane for the region {min(strange_planes)}; open it again"
            )
        planes = {}
        for key, number in self.files.items():
            plane = content.soft.get(number)
            if plane is None or not (plane.any() or key in present or key == WHOLE):
                continue
            planes[key] = _save(Image.fromarray(255 - plane if self.invert else plane))
        return planes


def _read_grey(path: Path) -> NDArray[np.float32]:
    with open_image(path) as image:
        grey: NDArray[np.float32] = read(image, path, "grey")
    return grey


def _list_ids(ids: Levels) -> list[int]:
    """The ids that are there; Pillow counts bytes as bytes, numpy would widen them first."""
    return [number for number, count in enumerate(Image.fromarray(ids).histogram()) if count]


def _find_stranger(ids: Levels, legend: Mapping[str, int]) -> int | None:
    known_ids = {0, *legend.values()}
    return next((number for number in _list_ids(ids) if number not in known_ids), None)


def _check_ids(ids: Levels, values_by_id: Mapping[int, object]) -> None:
    strange_ids = [number for number in _list_ids(ids) if number not in values_by_id]
    if strange_ids:
        raise ValueError(
            f"the mask holds the region {strange_ids[0]}, for which its file has no value; it has"
            f" {sorted(values_by_id)}"
        )


def _save(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def resize(content: MaskContent, shape: tuple[int, int]) -> MaskContent:
    """Content brought to another size by the nearest pixel: nothing new comes in between."""
    height, width = content.ids.shape
    rows = (np.arange(shape[0]) + 0.5) * height / shape[0]
    columns = (np.arange(shape[1]) + 0.5) * width / shape[1]
    cells = np.ix_(rows.astype(np.intp), columns.astype(np.intp))
    soft = {number: plane[cells] for number, plane in content.soft.items()}
    raw = None if content.raw is None else content.raw[cells]
    return MaskContent(content.ids[cells], soft, raw)


def fits(mask: tuple[int, int], clip: tuple[int, int]) -> bool:
    """Whether a mask of another size has its clip's shape, to a pixel."""
    return abs(mask[0] * clip[1] - mask[1] * clip[0]) <= max(*mask, *clip)


__all__ = [
    "BadMedia",
    "ColourForm",
    "LabelForm",
    "LevelForm",
    "PaintForm",
    "SoftForm",
    "fits",
    "resize",
]
