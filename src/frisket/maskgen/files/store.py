"""Masks on disk: where they lie, label maps with a legend, soft planes, and all of it read back."""

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

from frisket.disk.untrusted import BadText, parse_json, read_text, show
from frisket.evaluation.contact_sheet import REGION_COLOURS
from frisket.maskgen.base import LabelMap, SoftMask
from frisket.masks.read import BACKGROUND, WHOLE
from frisket.media.frames import BadMedia, Media, probe, stream, writing_labels
from frisket.media.images import open_image
from frisket.media.moving.display import fit
from frisket.media.paths import IMAGES, LEGEND, SOFT, VIDEOS, plain, replacing

CHUNK = "frisket-legend"  # of a PNG, holding its legend as JSON
TOP = 255  # the highest index of a label map


class BadLegend(ValueError):
    """A legend that cannot be read or extended; names the file, the fault and the fix."""


@dataclass(frozen=True, slots=True)
class MaskStore:
    """Where masks go: a folder that mirrors the clips, or (`beside`) the clip folder itself.

    `name` is a clip's path below the clip folder without suffix, as `media.files.ClipFiles` has it.
    In a mask folder lie name.png or name.mkv, name.json and soft/region/name.png; beside a clip lie
    name.mask.png or name.mask.mkv, and name.mask.json.
    """

    folder: Path
    beside: bool = False

    @property
    def legend(self) -> Path:
        """The one legend of all label maps here."""
        return self.folder / LEGEND

    def labels(self, name: str, *, video: bool) -> Path:
        """The label map of a clip."""
        return self._locate_mask(name, ".mkv" if video else ".png")

    def record(self, name: str) -> Path:
        """The record of a clip; ValueError for a name whose record would be the legend."""
        if self._locate_mask(name, ".json") == self.legend:
            raise ValueError(
                f"{self.legend}: a clip named {name!r} has its record where the legend is; rename"
                " the clip"
            )
        return self._locate_mask(name, ".json")

    def soft(self, region: str, name: str, *, video: bool) -> Path:
        """The soft plane of one region; ValueError beside clips, where it would be a clip."""
        if self.beside:
            raise ValueError(
                f"{self.folder}: soft planes need a mask folder of their own, beside the clips they"
                " would be taken for clips"
            )
        return self.folder / SOFT / region / f"{name}{'.mkv' if video else '.png'}"

    def present(self, name: str, clip: Path, regions: Iterable[str] = ()) -> dict[str, Path]:
        """Every mask of a clip that is there: label maps of any kind, then soft planes.

        By path below the folder; what `record.state` compares. A folder of frames counts too,
        unless it mirrors a folder of clips.
        """
        forms = dict.fromkeys((name, unicodedata.normalize("NFD", name)))
        ends = [self._end + suffix for suffix in (*IMAGES, *VIDEOS)]
        if self.beside:
            ends += [f"-masklabel{suffix}" for suffix in IMAGES]
        paths = [path for form in forms for e in ends if (path := self._locate(form + e)).is_file()]
        if self.beside or not (clip.parent / Path(name).name).is_dir():
            paths += [path for form in forms if _is_frames(path := self._locate(form + self._end))]
        for region in regions:
            paths += [p for v in (False, True) if (p := self.soft(region, name, video=v)).exists()]
        return {self.below(path): path for path in paths}

    def below(self, path: Path) -> str:
        """The path below this folder, as records name it."""
        return plain(path.relative_to(self.folder).as_posix())

    @property
    def _end(self) -> str:
        return ".mask" if self.beside else ""

    def _locate(self, file: str) -> Path:
        return self.folder / file

    def _locate_mask(self, name: str, suffix: str) -> Path:
        # Never with_suffix: "take.1" would lose its ".1".
        return self._locate(name + self._end + suffix)


def _is_frames(path: Path) -> bool:
    return path.is_dir() and any(file.suffix.lower() in IMAGES for file in path.iterdir())


def read_legend(path: Path) -> dict[str, int]:
    """Region to index of a legend file, {} where there is none; BadLegend where it is damaged."""
    try:
        return _parse_legend(path, read_text(path))
    except FileNotFoundError:
        return {}
    except BadText as error:
        raise BadLegend(f"{path}: {error}; restore it") from error


def _parse_legend(path: Path, text: str | bytes) -> dict[str, int]:
    fix = 'it should be like {"face": 1, "hair": 2}, each index once, from 1 to 255'
    try:
        legend = parse_json(text)
    except BadText as error:
        raise BadLegend(f"{path}: its legend is not JSON ({error}); {fix}") from error
    if not isinstance(legend, dict):
        raise BadLegend(f"{path}: its legend is a {type(legend).__name__}; {fix}")
    for name, index in legend.items():
        if type(index) is not int or not 1 <= index <= TOP:
            raise BadLegend(f"{path}: {show(name)} has the index {show(index)}; {fix}")
    if len(set(legend.values())) < len(legend):
        raise BadLegend(f"{path}: two regions share an index in {show(legend)}; {fix}")
    return legend


def extend_legend(path: Path, regions: Iterable[str]) -> dict[str, int]:
    """The legend of a mask folder, with new indices for regions it does not know yet.

    Indices once given stay, so label maps of earlier runs stay true. Call it once, before any
    worker writes. BadLegend where the file is damaged or full; ValueError for a region that cannot
    be one (`background`, a name that cannot be a folder).
    """
    earlier = read_legend(path)
    legend = dict(earlier)
    for name in regions:
        if name == BACKGROUND:
            raise ValueError(f"regions: {BACKGROUND!r} is what no region covers, index 0; leave it")
        if not name or name.startswith(".") or set(name) & set('/\\:\0"<>|?*'):
            raise ValueError(f"regions: {name!r} cannot be the name of a folder; use letters")
        legend.setdefault(name, max(legend.values(), default=0) + 1)
    if (top := max(legend.values(), default=0)) > TOP:
        raise BadLegend(
            f"{path}: {len(legend)} regions need the index {top}, but a label map ends at {TOP};"
            " use another mask folder, or fewer regions"
        )
    if legend != earlier:
        with replacing(path) as draft:
            draft.write_text(json.dumps(legend, ensure_ascii=False, indent=1) + "\n", "utf-8")
    return legend


def write_labels(path: Path, labels: LabelMap, legend: Mapping[str, int]) -> None:
    """Write a label map as indexed PNG, atomically: black is 0, regions have their report colours.

    The legend goes along as text. ValueError for an index the legend lacks, and another suffix.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: a label map is written as .png, not {path.suffix!r}")
    indices = _check_labels(path, labels, legend)
    image = Image.fromarray(indices)
    image.putpalette(_build_palette(legend))
    info = PngImagePlugin.PngInfo()
    info.add_text(CHUNK, json.dumps(dict(legend)))
    with replacing(path) as draft:
        image.save(draft, format="PNG", pnginfo=info)


@contextmanager
def open_label_video(
    path: Path, fps: float | int, legend: Mapping[str, int]
) -> Iterator[Callable[[LabelMap], None]]:
    """A call that appends the label map of one frame to an FFV1 .mkv, which appears when all is in.

    The legend goes along as comment. ValueError as `write_labels`, and for no frames.
    """
    with writing_labels(path, fps, json.dumps(dict(legend))) as video:

        def add(labels: LabelMap) -> None:
            _check_labels(path, labels, legend)
            video.add(labels)

        yield add


def _check_labels(path: Path, labels: LabelMap, legend: Mapping[str, int]) -> NDArray[np.uint8]:
    indices: NDArray[np.uint8] = labels.cpu().numpy()
    if (stranger := _find_stranger(indices, legend)) is not None:
        raise ValueError(
            f"{path}: labels hold the index {stranger}, which the legend {dict(legend)} lacks"
        )
    return indices


def _find_stranger(indices: NDArray[np.integer[Any]], legend: Mapping[str, int]) -> int | None:
    """The lowest index that the legend lacks."""
    present = np.flatnonzero(np.bincount(indices.ravel()))
    return next((int(index) for index in present if index not in {0, *legend.values()}), None)


def _build_palette(legend: Mapping[str, int]) -> bytes:
    palette = np.zeros((max(legend.values(), default=0) + 1, 3), np.uint8)
    for index in legend.values():
        palette[index] = REGION_COLOURS[(index - 1) % len(REGION_COLOURS)]
    return palette.tobytes()


def read_png_legend(path: Path) -> dict[str, int]:
    """The legend a label PNG carries; {} where another program wrote it."""
    with open_image(path) as image:
        text = image.info.get(CHUNK, "{}")
    return _parse_legend(path, text)


def levels(mask: SoftMask) -> UInt8[Tensor, "H W"]:
    """Probabilities in [0, 1] as grey levels 0 to 255."""
    return (mask.clamp(0, 1) * 255).round().to(torch.uint8)


def write_soft(path: Path, mask: SoftMask) -> None:
    """Write one soft plane as 8-bit grey PNG, atomically.

    Those of a video are added, as `levels`, to `media.frames.writing_labels`.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: a soft plane is written as .png, not {path.suffix!r}")
    with replacing(path) as draft:
        Image.fromarray(levels(mask).cpu().numpy()).save(draft, format="PNG")


def read_frames(
    masks: Mapping[str, Path], clip: Media, legend: Mapping[str, int]
) -> Iterator[dict[str, SoftMask]]:
    """The regions of each frame of a clip, H W in [0, 1], one frame at a time.

    `masks` as `media.files.ClipFiles` has them: {"": label map} cut by `legend`, or region to soft
    plane; a single picture stands for all frames. BadMedia where a mask has another size or frame
    count than its clip, or an index the legend lacks.
    """
    if WHOLE in masks:
        for labels in _read_fitting(masks[WHOLE], clip, "index"):
            if (stranger := _find_stranger(labels.numpy(), legend)) is not None:
                raise BadMedia(
                    f"{masks[WHOLE]}: holds the index {stranger}, but the legend has only"
                    f" {dict(legend)}; add it there, or paint it over"
                )
            yield {name: (labels == index).float() for name, index in legend.items()}
        return
    streams = [_read_fitting(path, clip, "grey") for path in masks.values()]
    for planes in zip(*streams, strict=True):
        yield dict(zip(masks, planes, strict=True))


def _read_fitting(path: Path, clip: Media, reading: Literal["index", "grey"]) -> Iterator[Tensor]:
    mask, size = probe(path), (clip.height, clip.width)
    if (mask.height, mask.width) not in (size, clip.stored):
        raise BadMedia(
            f"{path} is {mask.width} x {mask.height}, its clip {clip.path} is {clip.width} x"
            f" {clip.height} (width x height); make the mask again, or resize it without smoothing"
        )
    if not mask.video:
        yield from repeat(_resize_to_clip(next(stream(path, reading)), size), clip.frames)
    elif mask.frames != clip.frames:
        raise BadMedia(
            f"{path} has {mask.frames} frames but its clip {clip.path} has {clip.frames}: make one"
            " mask frame for every frame of the clip, or give a single picture for all"
        )
    else:
        yield from (_resize_to_clip(frame, size) for frame in stream(path, reading))


def _resize_to_clip(frame: Tensor, size: tuple[int, int]) -> Tensor:
    """A frame of a mask at its clip's size, where it was made before pixels were made square."""
    if frame.shape == size:
        return frame
    return torch.from_numpy(np.ascontiguousarray(fit(frame.numpy(), size)))
