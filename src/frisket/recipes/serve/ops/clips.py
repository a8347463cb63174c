"""Clips that the studio's server does not open itself: videos, frame folders, and their masks."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from frisket.masks.names import BACKGROUND
from frisket.masks.read import read
from frisket.media.foreign import reason_of
from frisket.media.frames import Media, decode, probe
from frisket.recipes.serve.session import Answer, Session
from frisket.shapes import Plane

LOOKED_AT = 8  # frames of a video whose mask is measured
QUALITY = 82
LARGEST = 2048  # pixels a side of a thumbnail


def measure(session: Session, args: dict[str, Any]) -> Answer:
    """Size, frames and coverage of some clips; what is wrong with one is told of that one."""
    measures = []
    for number, clip in enumerate(args["clips"]):
        session.report_progress("clips", number, len(args["clips"]))
        measures.append(_measure(clip))
    return Answer({"measures": measures})


def _measure(clip: Mapping[str, Any]) -> dict[str, Any]:
    try:
        media = probe(Path(clip["clip"]))
    except Exception as error:  # foreign files raise anything; it is told of this clip
        return {"fault": _spell(clip, error)}
    size = {"width": media.width, "height": media.height, "frames": media.frames}
    if not clip["masks"] and not (clip["alpha"] and media.alpha):
        return size
    count = min(LOOKED_AT, media.frames)
    picks = sorted({round(i * (media.frames - 1) / max(count - 1, 1)) for i in range(count)})
    try:
        planes = _read_planes(clip, media, picks)
    except Exception as error:
        return {**size, "mask_fault": _spell(clip, error)}
    return {**size, "coverage": {name: float(p.mean()) for name, p in planes.items()}}


def _spell(clip: Mapping[str, Any], error: Exception) -> str:
    if isinstance(error, ValueError | OSError):
        return str(error)
    return f"{clip['clip']}: cannot be read ({reason_of(error)})"


def _read_planes(clip: Mapping[str, Any], media: Media, picks: Sequence[int]) -> dict[str, Plane]:
    """The regions of some frames, as the trainer reads them."""
    legend = {n: v if isinstance(v, int) else tuple(v) for n, v in clip["legend"].items()}
    names = dict.fromkeys([*clip["weights"], *legend, *clip["levels"], *clip["numbers"]])
    regions = [name for name in names if name != BACKGROUND]
    if not legend and not clip["levels"] and "" in clip["masks"]:
        regions = regions[:1]  # a grey mask is of one region
    return read(
        {region: Path(path) for region, path in clip["masks"].items()},
        clip=media,
        alpha=clip["alpha"],
        picks=picks,
        regions=regions,
        levels=clip["levels"],
        legend=legend,
        invert=clip["invert"],
    )


def make_thumb(session: Session, args: dict[str, Any]) -> Answer:
    """The first frame of a clip as WebP, no side above `size` pixels."""
    session.check()
    frames = decode(Path(args["clip"]), [0])
    image = Image.fromarray(np.asarray(frames[0]))
    side = min(int(args["size"]), LARGEST)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=QUALITY, method=2)
    return Answer({"width": image.width, "height": image.height}, stream.getvalue())


def read_ids(session: Session, args: dict[str, Any]) -> Answer:
    """The first frame's regions by `numbers` as uint8 H W, no side above `size` pixels."""
    session.check()
    media = probe(Path(args["clip"]))
    planes = _read_planes(args, media, [0])
    names = [name for name in planes if name in args["numbers"]]
    stack = torch.stack([planes[name][0] for name in names])
    numbers = torch.tensor([args["numbers"][name] for name in names], dtype=torch.uint8)
    labels = torch.where(stack.amax(0) >= 0.5, numbers[stack.argmax(0)], 0).to(torch.uint8).numpy()
    height, width = labels.shape
    scale = min(1.0, min(int(args["size"]), LARGEST) / max(height, width))
    rows, columns = (_pick(side, max(1, round(side * scale))) for side in (height, width))
    small = np.ascontiguousarray(labels[rows[:, None], columns])
    return Answer({"height": small.shape[0], "width": small.shape[1]}, small.tobytes())


def _pick(size: int, count: int) -> np.ndarray:
    return ((np.arange(count) + 0.5) * size / count).astype(np.intp)


OPS = {"clips.measure": measure, "clips.thumb": make_thumb, "clips.ids": read_ids}
