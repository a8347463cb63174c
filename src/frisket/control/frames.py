"""Kinds that draw each frame by itself, as a function of it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from frisket.control.base import ControlPicture
from frisket.shapes import Clip, Structure


@dataclass(frozen=True, slots=True)
class FrameDrawer:
    """Draws frames one after the other; nothing of one shows in the next."""

    paint: Callable[[ControlPicture], ControlPicture]
    fingerprint: str = ""

    def draw(self, frames: Iterable[ControlPicture]) -> Iterator[ControlPicture]:
        """The control picture of each frame."""
        return map(self.paint, frames)


def paint_structure(
    extract: Callable[[Clip], Structure],
) -> Callable[[ControlPicture], ControlPicture]:
    """A function of `losses.structure`, which reads clips in [0, 1], as one of a single frame.

    Maps of one channel become grey pictures.
    """

    @torch.no_grad()
    def paint(frame: ControlPicture) -> ControlPicture:
        clip = frame.permute(2, 0, 1)[None, :, None].float() / 255
        return make_picture(extract(clip)[0, :, 0])

    return paint


def make_picture(planes: Tensor) -> ControlPicture:
    """Planes c H W in [0, 1], one (grey) or three (RGB), as a picture of 8 bits."""
    levels = (planes.clamp(0, 1) * 255).round().to(torch.uint8)
    return levels.expand(3, -1, -1).permute(1, 2, 0).contiguous()
