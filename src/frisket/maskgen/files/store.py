"""Masks on disk: where they lie, label maps with a legend, soft planes, and all of it read back."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from frisket.maskgen.base import LabelMap, SoftMask
from frisket.maskgen.files.label_maps import (
    BadLegend,
    extend_legend,
    find_stranger,
    read_legend,
    read_png_legend,
    save_labels,
)
from frisket.maskgen.files.places import MaskStore
from frisket.masks.names import WHOLE
from frisket.media.frames import BadMedia, Media, probe, stream, writing_labels
from frisket.media.moving.display import fit
from frisket.media.paths import LEGEND, replacing

__all__ = [
    "LEGEND",
    "BadLegend",
    "MaskStore",
    "extend_legend",
    "levels",
    "open_label_video",
    "read_frames",
    "read_legend",
    "read_png_legend",
    "save_labels",
    "write_labels",
    "write_soft",
]


def write_labels(path: Path, labels: LabelMap, legend: Mapping[str, int]) -> None:
    """Write a label map as indexed PNG, atomically: black is 0, regions have their report colours.

    The legend goes along as text. ValueError for an index the legend lacks, and another suffix.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: a label map is written as .png, not {path.suffix!r}")
    indices = _check_labels(path, labels, legend)
    with replacing(path) as draft:
        save_labels(draft, indices, legend)


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
    if (stranger := find_stranger(indices, legend)) is not None:
        raise ValueError(
            f"{path}: labels hold the index {stranger}, which the legend {dict(legend)} lacks"
        )
    return indices


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
            if (stranger := find_stranger(labels.numpy(), legend)) is not None:
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
