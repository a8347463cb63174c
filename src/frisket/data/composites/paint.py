"""Paints a mix: subjects cut out of their clips under their masks, laid into one scene."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from frisket.data.background_swap import composite
from frisket.data.backgrounds import cut, paint_backdrop, to_frames
from frisket.data.composites.layers import limit_to
from frisket.data.composites.places import Placement, find_overlap, lay_plane
from frisket.data.mask_pipeline import planes_of
from frisket.data.records import Backdrop, Window
from frisket.media.frames import decode_stored
from frisket.media.geometry import Geometry
from frisket.shapes import Frames, Plane

Regions = Mapping[str, Plane]  # region to F H W
ClipFrames = UInt8[Tensor, "F Y X 3"]  # of another size than the canvas it is laid on
Cut = Float[Tensor, "F Y X"]


@dataclass(frozen=True, slots=True)
class MixScene:
    """One mix: whose subjects, before what, and where each of them goes (in pixels).

    The first of `windows` is the clip itself. Without a `backdrop` its picture is the ground, and
    the other subjects are laid into it; before a backdrop all are laid.
    """

    windows: tuple[Window, ...]
    backdrop: Backdrop | None
    places: tuple[Placement, ...]
    kept_regions: tuple[str, ...]  # regions that are cut out
    regions: tuple[str, ...]
    despill: float = 0.0

    def list_pasted(self) -> list[tuple[Window, Placement]]:
        """The subjects that are pasted, from below to above."""
        pairs = list(zip(self.windows, self.places, strict=True))
        return pairs[1:] if self.backdrop is None else pairs

    def load(self) -> Frames:
        """The clip's own frames, at the size it is trained at."""
        return load_frames(self.windows[0])

    def cover(self) -> dict[str, Plane]:
        """What is visible of every region, F H W each; they sum to at most 1 in every pixel."""
        clip = self.windows[0]
        size, count = clip.geometry.target, len(clip.geometry.picks)
        ground = planes_of(clip, self.regions) if self.backdrop is None else {}
        cutouts = [
            (cut_planes(window, self.kept_regions, self.regions, count), place)
            for window, place in self.list_pasted()
        ]
        return lay_regions(ground, cutouts, size, count)

    def paint(self, frames: Frames) -> Frames:
        """The picture, of the clip's own frames (both at the size it is trained at)."""
        size, count = (frames.shape[1], frames.shape[2]), len(frames)
        ground = frames
        if self.backdrop is not None:
            ground = paint_backdrop(self.backdrop, count, size, self.regions)
        ground = ground.expand(count, -1, -1, -1).clone()
        for window, place in self.list_pasted():
            is_clip = window is self.windows[0]
            pictures = frames if is_clip else load_frames(window)
            keep = add_planes(cut_planes(window, self.kept_regions, self.regions, count))
            paste(ground, extend(pictures, count), keep, place, despill=self.despill)
        return ground


def load_frames(window: Window) -> Frames:
    """The frames of a clip at the size it is trained at."""
    return cut(window, decode_stored(window.clip, window.geometry.picks))


def cut_planes(
    window: Window, kept_regions: Sequence[str], regions: Sequence[str], count: int
) -> dict[str, Plane]:
    """The planes of what is cut out of a clip, as long as the clip it is laid into."""
    planes = planes_of(window, regions)
    return {name: extend(plane, count) for name, plane in planes.items() if name in kept_regions}


def add_planes(planes: Regions) -> Plane:
    """Regions together, at most 1: what is kept of a clip."""
    return torch.stack(list(planes.values())).sum(0).clamp(0, 1)


def lay_regions(
    ground: Regions,
    cutouts: Sequence[tuple[Mapping[str, Tensor], Placement]],
    size: tuple[int, int],
    count: int,
) -> dict[str, Plane]:
    """Regions after cutouts were laid over those of a ground: what is visible of each.

    A region below is left where what is above lets it through (1 - a); the regions of a cutout are
    as opaque as the cutout itself. All sum to at most 1 in every pixel.
    """
    planes = limit_regions(ground)
    for cutout, place in cutouts:
        resized = {name: resize_plane(plane, place.scale) for name, plane in cutout.items()}
        keep = lay_plane(add_planes(resized), size, place.down, place.right)
        planes = {name: plane * (1 - keep) for name, plane in planes.items()}
        for name, plane in limit_regions(resized).items():
            blank = torch.zeros(count, *size)
            planes[name] = planes.get(name, blank) + lay_plane(plane, size, place.down, place.right)
    return planes


def limit_regions(planes: Regions) -> dict[str, Plane]:
    """Planes scaled where several regions claim the same pixel: together at most 1."""
    if not planes:
        return {}
    stacked = torch.stack(list(planes.values()))
    limited = limit_to(stacked, add_planes(planes)[None])
    return dict(zip(planes, limited, strict=True))


def paste(
    canvas: Frames, frames: ClipFrames, keep: Cut, place: Placement, *, despill: float = 0.0
) -> None:
    """Lay what `keep` keeps of frames on a canvas of as many frames, in place.

    Pixels of keep 1 are the subject's own (at scale 1 bit for bit). `despill` takes the old
    background out of soft edges, as of a background swap.
    """
    frames, keep = resize_frames(frames, place.scale), resize_plane(keep, place.scale)
    size = (canvas.shape[1], canvas.shape[2])
    rows, columns, from_rows, from_columns = find_overlap(
        (keep.shape[1], keep.shape[2]), size, place
    )
    canvas[:, rows, columns] = composite(
        frames[:, from_rows, from_columns],
        keep[:, from_rows, from_columns],
        canvas[:, rows, columns],
        despill=despill,
    )


def resize_plane(plane: Plane, scale: float) -> Float[Tensor, "F H_new W_new"]:
    """A plane at another size: exact area means when shrinking, linear when enlarging."""
    return plane if scale == 1 else _scale(plane.shape, scale).plane(plane)


def resize_frames(frames: Frames, scale: float) -> UInt8[Tensor, "F H_new W_new 3"]:
    """Frames at another size: exact area means when shrinking, Lanczos when enlarging."""
    if scale == 1:
        return frames
    return to_frames(_scale(frames.shape[:3], scale).pixels(frames))


def _scale(shape: Any, scale: float) -> Geometry:
    count, height, width = shape
    target = (max(round(height * scale), 1), max(round(width * scale), 1))
    return Geometry((height, width), target, tuple(range(count)))


def extend(frames: Tensor, count: int) -> Tensor:
    """`count` frames of a clip or plane (F first): forwards and backwards where it is too short."""
    last = len(frames) - 1
    turns = [last - abs(last - index % (2 * last)) if last else 0 for index in range(count)]
    return frames[torch.tensor(turns)]
