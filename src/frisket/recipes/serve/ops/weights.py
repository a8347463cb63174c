"""What the loss will see of a mask, while it is painted or as it is saved."""

import unicodedata
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frisket.config.load import load
from frisket.data.choosing import choose
from frisket.data.records import Masking, Window
from frisket.inspection.lens.faults import list_faults
from frisket.inspection.lens.view import (
    Lens,
    LossView,
    lay_frame,
    lay_saved,
    open_lens,
    open_window,
    read_saved,
    split_labels,
    weigh_cells,
)
from frisket.media.files import ClipFiles, find
from frisket.media.frames import Media, probe
from frisket.media.paths import IMAGES, LEGEND, VIDEOS
from frisket.recipes.serve.session import Answer, Session
from frisket.shapes import Plane

MOST_PIXELS = 1 << 26  # of a label map: 8192 x 8192


class BadLabels(ValueError):
    """Labels or planes of a request that are not of the size it names."""


@dataclass(frozen=True, slots=True)
class PaintedMask:
    """What the page paints: a label map H W with its legend, soft planes by region."""

    labels: Tensor | None
    legend: Mapping[str, int]
    soft: Mapping[str, Plane]


def see_weights(session: Session, args: dict[str, Any]) -> Answer:
    """The weights and coverage of one clip's window, and what is lost of the mask.

    Args: config, number (of its [[data]]), clip, name; t; frame; weights and resolution to try;
    width, height, legend and soft (names in the order of the body) where the body holds a painted
    mask: deflated labels, then deflated planes, each with its length in `lengths`. Without a body
    the mask is read as it is saved. The answer's body is float16: weights f h w, then coverage
    k f h w.
    """
    lens = _open_lens(session, args)
    clip, frame = Path(args["clip"]), int(args.get("frame", 0))
    media = session.cache.get(("media", *_stamp(clip)), lambda: (probe(clip), 1024))
    files = _find_masks(lens, args, clip, media)
    painted = read_painted(session.body, args) if session.body else None
    masks = files.masks if painted is None else (files.masks or {"": clip})
    window = open_window(lens, clip, files.name, masks, frame, media)
    session.check()
    if painted is None and not window.masked:
        return Answer({"masked": False, "trained": _spell_unmasked(lens)})
    return _answer(session, lens, window, painted, frame, float(args.get("t", 0.0)))


def _answer(
    session: Session,
    lens: Lens,
    window: Window,
    painted: PaintedMask | None,
    frame: int,
    level: float,
) -> Answer:
    picks = window.geometry.picks
    at = picks.index(frame) if frame in picks else 0
    single = replace(window, geometry=replace(window.geometry, picks=picks[at : at + 1]))
    if painted is None:
        planes = read_saved(lens, single)
        cells = lay_frame(lens, single, planes)
        frames = _lay_others(session, lens, window) if len(picks) > 1 else cells
    else:
        planes = _split(painted, single, lens)
        cells = lay_frame(lens, single, planes)
        frames = cells
        if len(picks) > 1:
            frames = _lay_others(session, lens, window).clone()
            if frame in picks:
                frames[:, at : at + 1] = cells
    session.check()
    view = weigh_cells(lens, frames, level)
    faults = list_faults(lens, single, planes, cells, view)
    body = torch.cat([view.weights[None], view.coverage]).half().numpy().tobytes()
    latent = -(-at // lens.grid.temporal)
    value = _describe(lens, window, view, planes)
    value |= {
        "masked": True,
        "latent": latent,
        "picked": frame in picks,
        "faults": [asdict(fault) for fault in faults],
    }
    return Answer(value, body)


def _describe(
    lens: Lens, window: Window, view: LossView, planes: Mapping[str, Plane]
) -> dict[str, Any]:
    rows, columns = window.geometry.spans()
    height, width = window.geometry.target
    areas = {name: float(plane.mean()) for name, plane in planes.items()}
    areas["background"] = max(1 - sum(areas.values()), 0.0)
    resolution = lens.clipset.resolution
    return {
        "cells": list(view.weights.shape),
        "spatial": lens.grid.spatial,
        "temporal": lens.grid.temporal,
        "box": [
            *(columns.start, rows.start),
            *(columns.start + columns.length, rows.start + rows.length),
        ],
        "target": [width, height],
        "size": [window.media.width, window.media.height],
        "frames": len(window.geometry.picks),
        "regions": [
            asdict(region) | {"picture": areas.get(region.name, 0.0)} for region in view.regions
        ],
        "divisor": view.divisor,
        "silent": view.silent,
        "normalise": lens.weighting.normalise,
        "reading": lens.clipset.masking.reading,
        "feather_t": lens.config.curve.feather_t,
        "family": lens.family,
        "variant": lens.variant,
        "resolution": [resolution, resolution] if isinstance(resolution, int) else list(resolution),
        "largest": max(float(view.weights.max()), 0.0),
    }


def _open_lens(session: Session, args: dict[str, Any]) -> Lens:
    path, number = Path(args["config"]), int(args.get("number", 0))
    weights, resolution = args.get("weights") or {}, args.get("resolution")
    if isinstance(resolution, list):
        resolution = (int(resolution[0]), int(resolution[1]))
    config = session.cache.get(("config", *_stamp(path)), lambda: (load(path), 1 << 16))
    places = [data.masks.path or data.clips for data in config.data]
    legends = tuple(_stamp(place / LEGEND) for place in places)
    key = ("config", *_stamp(path), legends)
    config = session.cache.get(key, lambda: (load(path), 1 << 16))
    settings = (number, tuple(sorted(weights.items())), resolution)

    def make() -> tuple[Lens, int]:
        return open_lens(config, number, weights=weights, resolution=resolution), 1 << 14

    lens: Lens = session.cache.get(("lens", key, settings), make)
    return lens


def _find_masks(lens: Lens, args: dict[str, Any], clip: Path, media: Media) -> ClipFiles:
    """The clip with the masks that its configuration gives it: `media.files`, of one clip."""
    masking, name = lens.clipset.masking, str(args["name"])
    alpha = masking.source == "alpha" and media.alpha
    files = ClipFiles(name, clip, "", _pair(masking, lens.clipset.clips, clip, name), alpha)
    if masking.fallback is not None and not files.masks:
        return choose(masking, [files]).clips[0]
    return files


def _pair(masking: Masking, clips: Path, clip: Path, name: str) -> dict[str, Path]:
    """The masks of one clip, without a look at all the others."""
    if masking.source == "listed":  # the manifest has to be read, whole
        listed = find(clips, masks="listed", folders={}).clips
        return dict(next((files.masks for files in listed if files.name == name), {}))
    ends = [""]
    folders = dict(masking.folders)
    if masking.source == "sidecar":
        folders, ends = {"": clips}, [".mask", "-masklabel"]
    stems = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    suffixes = ("", *IMAGES, *VIDEOS) if masking.source != "sidecar" else (*IMAGES, *VIDEOS)
    names = ["".join(parts) for parts in product(stems, ends, suffixes)]
    mask_paths: dict[str, Path] = {}
    for region, folder in folders.items():
        paths = (folder / file_name for file_name in names)
        path = next((path for path in paths if path != clip and path.exists()), None)
        if path is not None:
            mask_paths[region] = path
    return mask_paths


def _spell_unmasked(lens: Lens) -> str:
    """What training makes of a clip without a mask."""
    masking = lens.clipset.masking
    if masking.source == "none" or masking.unmasked == "train":
        return "whole"
    return "refused" if masking.require else "left out"


def _lay_others(session: Session, lens: Lens, window: Window) -> Tensor:
    """The cells of all frames of a video's mask on disk; zeros where there is none."""
    geometry = window.geometry
    height, width = (side // lens.grid.spatial for side in geometry.target)
    blank = torch.zeros(len(lens.regions), len(geometry.picks), height, width)
    files = [path for path in window.masks.values() if path != window.clip]
    if not files and window.masking.source != "alpha":
        return blank
    key = (
        *("cells", *_stamp(window.clip), *(_stamp(path) for path in files)),
        *(repr(geometry), repr(replace(window.masking, unsure=None)), lens.regions, lens.grid),
    )

    def make() -> tuple[Tensor, int]:
        cells = lay_saved(lens, window)
        return cells, cells.numel() * cells.element_size()

    cells: Tensor = session.cache.get(key, make)
    return cells


def _split(painted: PaintedMask, window: Window, lens: Lens) -> dict[str, Plane]:
    """The painted planes as the trainer would read them from the saved file."""
    planes: dict[str, Plane] = {}
    if painted.labels is not None:
        planes = split_labels(painted.labels, painted.legend, window, lens.regions)
    for name in lens.regions:
        if name in painted.soft:
            planes[name] = painted.soft[name]
    if window.masking.invert:
        planes = {name: 1 - plane for name, plane in planes.items()}
    if not planes:
        raise BadLabels("the painted mask has no region of [regions]; add one there")
    return planes


def read_painted(body: bytes, args: dict[str, Any]) -> PaintedMask:
    """A painted mask of a request: deflated label map and planes; BadLabels where they misfit."""
    width, height = int(args["width"]), int(args["height"])
    if min(width, height) < 1 or width * height > MOST_PIXELS:
        raise BadLabels(f"a mask of {width} x {height} pixels; up to {MOST_PIXELS} pixels can be")
    soft_names = [str(name) for name in args.get("soft") or []]
    lengths = [int(length) for length in args.get("lengths") or [len(body)]]
    hard = len(lengths) - len(soft_names)
    if hard not in (0, 1) or sum(lengths) != len(body):
        raise BadLabels(f"a mask of {len(lengths)} parts for the planes {soft_names}")
    parts = _unpack_parts(body, lengths, width, height)
    legend = _read_legend(args)
    soft = zip(soft_names, parts[hard:], strict=True)
    return PaintedMask(
        parts[0] if hard else None,
        legend,
        {name: (plane.float() / 255)[None] for name, plane in soft},
    )


def _read_legend(args: dict[str, Any]) -> dict[str, int]:
    return {str(name): int(index) for name, index in (args.get("legend") or {}).items()}


def _unpack_parts(body: bytes, lengths: list[int], width: int, height: int) -> list[Tensor]:
    """One plane for each length of deflated bytes, one behind the other."""
    starts = accumulate(lengths, initial=0)
    return [
        _unpack_plane(body[start : start + length], width, height)
        for start, length in zip(starts, lengths, strict=False)
    ]


def _unpack_plane(data: bytes, width: int, height: int) -> Tensor:
    stream = zlib.decompressobj()
    try:
        pixels = stream.decompress(data, width * height + 1)
    except zlib.error as error:
        raise BadLabels(f"the painted mask cannot be inflated: {error}") from error
    if len(pixels) != width * height:
        raise BadLabels(
            f"the painted mask has {len(pixels)} pixels, {width} x {height} has {width * height}"
        )
    return torch.from_numpy(np.frombuffer(pixels, np.uint8).reshape(height, width).copy())


def _stamp(path: Path) -> tuple[str, int, int]:
    """A file as it is now, for keys of what is kept."""
    try:
        stat = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), stat.st_mtime_ns, stat.st_size


OPS = {"weights.see": see_weights}
