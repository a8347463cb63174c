"""What an image adapter is shown of a clip: a region alone, on grey, or the whole frame."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from frisket.data.faces.keypoints import MIRRORED

GREY = 127.0
MARGIN = 0.1  # of the region's longer side, on each of its sides
PRESENT = 0.5  # coverage from which a cell belongs to the rectangle around a region


def choose_latent_frame(plane: Float[Tensor, "f h w"]) -> int:
    """The latent frame that shows most of a region, the first of equals."""
    return int(plane.sum((1, 2)).argmax())


def crop_frame(
    frame: UInt8[Tensor, "H W 3"], crop: Sequence[float], *, flip: bool = False
) -> UInt8[Tensor, "h w 3"]:
    """The part of a clip's frame that is trained on, at the file's own size.

    `crop` is top, left, height and width in pixels, rounded to whole ones; empty is all of it.
    `flip` mirrors it afterwards.
    """
    if crop:
        top, left, height, width = (round(value) for value in crop)
        frame = frame[top : top + max(1, height), left : left + max(1, width)]
    return frame.flip(1) if flip else frame


def crop_points(
    points: Float[Tensor, "5 2"],
    size: tuple[int, int],
    frame: tuple[int, int],
    crop: Sequence[float],
    *,
    flip: bool = False,
) -> Float[Tensor, "5 2"]:
    """Key points (x, y) of a picture of `size` (H, W) in what `crop_frame` leaves of a frame.

    `frame` is the file's own size. Mirrored, left and right change places.
    """
    sides = torch.tensor([frame[1] / size[1], frame[0] / size[0]])
    cut_points = (points + 0.5) * sides - 0.5
    width = frame[1]
    if crop:
        top, left, _, width = (round(value) for value in crop)
        cut_points = cut_points - torch.tensor([float(left), float(top)])
        width = min(max(1, width), frame[1] - left)
    if not flip:
        return cut_points
    mirrored_points = torch.stack([width - 1 - cut_points[:, 0], cut_points[:, 1]], dim=1)
    return mirrored_points[list(MIRRORED)]


def lay_softly(
    plane: Float[Tensor, "h w"], height: int, width: int
) -> Float[Tensor, "height width"]:
    """A region's coverage at the size of a picture, between cells linearly, in [0, 1]."""
    planes = plane[None, None].float()
    soft = functional.interpolate(planes, (height, width), mode="bilinear", align_corners=False)
    return soft[0, 0].clamp(0, 1)


def cut_out(
    frame: UInt8[Tensor, "H W 3"], plane: Float[Tensor, "h w"]
) -> UInt8[Tensor, "S S 3"] | None:
    """A region on grey, in a square with a margin around it; None where the region is not there.

    `plane` is its coverage on any grid over the same picture; between cells it is laid out softly.
    """
    height, width = frame.shape[:2]
    soft = lay_softly(plane, height, width)
    rows, columns = (soft >= PRESENT * float(soft.amax())).nonzero(as_tuple=True)
    if not float(soft.amax()) > 0:
        return None
    top, bottom = int(rows.amin()), int(rows.amax()) + 1
    left, right = int(columns.amin()), int(columns.amax()) + 1
    side = max(bottom - top, right - left)
    side += 2 * round(MARGIN * side)
    top, left = (top + bottom - side) // 2, (left + right - side) // 2
    lit_frame = frame.float() * soft[..., None] + GREY * (1 - soft[..., None])
    square = torch.full((side, side, 3), GREY)
    first, last = max(0, top), min(height, top + side)
    start, end = max(0, left), min(width, left + side)
    square[first - top : last - top, start - left : end - left] = lit_frame[first:last, start:end]
    return square.round().to(torch.uint8)
