"""Masks drawn anew: cut to a random disc, or blurred, as other trainers do in every step."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from frisket.masks.axes import check_axes
from frisket.shapes import Plane

_Grey = NDArray[np.float32]  # H W


def random_point(planes: Sequence[Tensor], seed: int) -> tuple[int, int]:
    """Row and column of a random pixel of a mask (planes F H W), on the first plane's pixels.

    That is where a uniform field, drawn by `seed`, times the mask is largest: any pixel of a hard
    mask as often as any other. All planes and frames count together.
    """
    union = _merge_planes(planes)
    field = np.random.RandomState(seed).random_sample(union.shape)  # a stream numpy never changes
    row, column = np.unravel_index(int((field * union).argmax()), union.shape)
    return int(row), int(column)


def cut_to_disc(planes: Sequence[Tensor], share: float, point: tuple[int, int]) -> list[Tensor]:
    """Planes of one mask, each F H W, kept within a disc about a point; 0 outside.

    The radius is `share` (0 to 1; 1 keeps the whole mask) of the largest distance from `point`,
    each distance times the mask there. One disc for all planes and frames; planes of another size
    are cut at the same place. Range [0, 1]. With `random_point` after `RandomCircularMaskShrink`
    of Nerogar's mgds, which OneTrainer uses.
    """
    for plane in planes:
        check_axes("the mask", plane, "F H W")
    union = _merge_planes(planes)
    reach = float((union * _measure_distance(union.shape, union.shape, point)).max())
    return [
        _mask_plane(plane, _measure_distance(plane.shape[1:], union.shape, point) <= share * reach)
        for plane in planes
    ]


def blur(plane: Plane, radius: int) -> Plane:
    """A plane blurred as a picture of 8 bits by Pillow's Gaussian of `radius` pixels; 0 leaves it.

    As toolkit/dataloader_mixins.py of ostris's ai-toolkit blurs a mask.
    """
    check_axes("the mask", plane, "F H W")
    if not radius:
        return plane
    still = plane.shape[0] > 1 and plane.stride(0) == 0
    frames = (plane[:1] if still else plane).float().clamp(0, 1)
    blurred = []
    for frame in (frames * 255).round().to(torch.uint8).numpy():
        smooth = Image.fromarray(frame).filter(ImageFilter.GaussianBlur(radius))
        blurred.append(torch.from_numpy(np.array(smooth)).float() / 255)
    return torch.stack(blurred).expand(plane.shape)


def _merge_planes(planes: Sequence[Tensor]) -> _Grey:
    """The largest value over planes and frames, on the first plane's pixels."""
    size = tuple(planes[0].shape[1:])
    union = np.zeros(size, np.float32)
    for plane in planes:
        most = plane.amax(0).float()
        if tuple(most.shape) != size:
            most = torch.nn.functional.interpolate(most[None, None], size=size)[0, 0]
        union = np.maximum(union, most.numpy())
    return union


def _measure_distance(
    size: Sequence[int], union_size: Sequence[int], point: tuple[int, int]
) -> NDArray[np.float64]:
    """Of every pixel's centre from `point`, a pixel of a picture of `union_size`, in its pixels."""
    rows, columns = (
        (np.arange(length) + 0.5) * (other / length) - 0.5 - at
        for length, other, at in zip(size, union_size, point, strict=True)
    )
    distance: NDArray[np.float64] = np.hypot(rows[:, None], columns[None])
    return distance


def _mask_plane(plane: Tensor, inside: NDArray[np.bool_]) -> Tensor:
    still = plane.shape[0] > 1 and plane.stride(0) == 0
    cut = (plane[:1] if still else plane) * torch.from_numpy(inside)
    return cut.expand(plane.shape)
