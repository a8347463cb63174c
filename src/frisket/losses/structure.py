"""What of a picture is structure: edges, light and blocks of colour, without a weight to load.

Every extractor reads RGB clips in [0, 1], b 3 F H W, frame by frame, and gives a map b c F H W of
the same size, float32 and differentiable. A control picture drawn from a clip and the loss that
holds a prediction to it call the same function.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from frisket.shapes import Clip, Structure

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: what cv2, PIL and kornia call grey
SHARE = 1 / 64  # of a frame's shorter side: the blur of `blur_luminance`
BLOCKS = 16  # of colour along the shorter side
CANNY_EPS = 1e-6  # under the root, as kornia's
FAINT = 1e-3  # edges weaker than it are rounded off: the root has a slope at 0

_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))  # along x; along y it is turned
# The neighbours that Canny compares with, by the direction of the gradient modulo half a turn: in
# steps of 45 degrees from x towards y (down), as (row, column).
_NEIGHBOURS = ((0, 1), (1, 1), (1, 0), (1, -1))


def measure_luminance(clip: Clip) -> Structure:
    """The luminance of each pixel (BT.601), b 1 F H W in [0, 1]."""
    _check_clip(clip)
    red, green, blue = clip.float().unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def find_edges(clip: Clip) -> Structure:
    """The Sobel gradient's length of the luminance, b 1 F H W from 0; 1 is a step black to white.

    Border pixels are repeated outside. sqrt(g^2 + e^2) - e with e = 0.001 in place of the length
    itself, which has no slope in a flat picture. ValueError for anything but b 3 F H W.
    """
    frames, count = _flatten(measure_luminance(clip))
    across, down = _measure_gradients(frames)
    length = (across.square() + down.square()).div(16).add(FAINT**2).sqrt() - FAINT
    return _restore(length, count)


def find_canny(clip: Clip) -> Structure:
    """Canny's magnitude where it is a ridge and exactly 0 elsewhere, b 1 F H W in [0, about 4.5].

    The luminance blurred (5 x 5, sigma 1, mirrored borders), its Sobel gradient's length
    sqrt(g^2 + 1e-6) (unnormalised), kept where it is above both neighbours along the gradient
    (outside is 0). That is the first of what `Canny` of ControlNet++ (arXiv:2404.07987; kornia's
    filter) returns, the one its reward compares: no threshold, so that weak edges count too. The
    gradient passes through the kept pixels alone.
    """
    luminance, count = _flatten(measure_luminance(clip))
    across, down = _measure_gradients(_blur(luminance, 1.0, 2, "reflect"))
    length = (across.square() + down.square() + CANNY_EPS).sqrt()
    with torch.no_grad():
        ridges = _find_ridges(length, torch.atan2(down, across))
    return _restore(length * ridges, count)


def blur_luminance(clip: Clip, share: float = SHARE) -> Structure:
    """The luminance under a Gaussian, b 1 F H W in [0, 1]: where light and dark lie.

    The Gaussian's sigma is `share` of a frame's shorter side (at least half a pixel), so that it
    is the same picture at any size; it ends at 3 sigma, borders are repeated. ValueError for a
    share of 0 or less.
    """
    if share <= 0:
        raise ValueError(f"blur_luminance: share must be above 0, got {share}")
    luminance, count = _flatten(measure_luminance(clip))
    sigma = max(0.5, share * min(luminance.shape[2:]))
    return _restore(_blur(luminance, sigma, math.ceil(3 * sigma), "replicate"), count)


def average_colours(clip: Clip, blocks: int = BLOCKS) -> Structure:
    """Each pixel as the mean of its block, b 3 F H W in [0, 1]; `blocks` on the shorter side.

    Blocks are as square as whole pixels allow, each pixel is in exactly one: done twice it is the
    same. ValueError for fewer blocks than 1.
    """
    if blocks < 1:
        raise ValueError(f"average_colours: blocks must be 1 or more, got {blocks}")
    _check_clip(clip)
    height, width = clip.shape[3:]
    side = max(1.0, min(height, width) / blocks)
    rows = _make_averaging(height, side, clip.device)
    columns = _make_averaging(width, side, clip.device)
    return rows @ clip.float() @ columns.T


EXTRACTORS: Mapping[str, Callable[[Clip], Structure]] = MappingProxyType(
    {
        "edges": find_edges,
        "canny": find_canny,
        "luma": blur_luminance,
        "colours": average_colours,
    }
)


def _check_clip(clip: Tensor) -> None:
    if clip.ndim != 5 or clip.shape[1] != 3:
        raise ValueError(f"a clip of shape {tuple(clip.shape)}: expected RGB, b 3 F H W")


def _flatten(planes: Structure) -> tuple[Tensor, int]:
    """Frames of all clips in one batch, and how many clips they are of."""
    return planes.transpose(1, 2).flatten(0, 1), len(planes)


def _restore(frames: Tensor, count: int) -> Structure:
    return frames.view(count, -1, *frames.shape[1:]).transpose(1, 2)


def _measure_gradients(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's sums along x and y, borders repeated: up to 4 for values in [0, 1]."""
    kernel = torch.tensor(_SOBEL, device=frames.device)
    padded = functional.pad(frames, (1, 1, 1, 1), mode="replicate")
    sums = functional.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])
    return sums[:, :1], sums[:, 1:]


def _blur(frames: Tensor, sigma: float, reach: int, border: str) -> Tensor:
    """A Gaussian of `reach` pixels to each side, along x and then y."""
    if border == "reflect" and min(frames.shape[2:]) <= reach:
        raise ValueError(
            f"frames of {frames.shape[3]} x {frames.shape[2]} pixels are too small: Canny's blur"
            f" mirrors {reach} pixels at each border"
        )
    distance = torch.arange(-reach, reach + 1, device=frames.device, dtype=torch.float32)
    kernel = torch.softmax(-distance.square() / (2 * sigma**2), 0)
    across = functional.pad(frames, (reach, reach, 0, 0), mode=border)
    across = functional.conv2d(across, kernel.view(1, 1, 1, -1))
    down = functional.pad(across, (0, 0, reach, reach), mode=border)
    return functional.conv2d(down, kernel.view(1, 1, -1, 1))


def _find_ridges(length: Tensor, angle: Tensor) -> Tensor:
    """True where a length is above both of its neighbours along its direction (radians)."""
    height, width = length.shape[2:]
    padded = functional.pad(length, (1, 1, 1, 1))
    direction = torch.round(angle / (math.pi / 4)).long() % 4

    def shift(row: int, column: int) -> Tensor:
        return padded[:, :, 1 + row : 1 + row + height, 1 + column : 1 + column + width]

    ridges = torch.zeros_like(length, dtype=torch.bool)
    for place, (row, column) in enumerate(_NEIGHBOURS):
        highest = torch.maximum(shift(row, column), shift(-row, -column))
        ridges |= (direction == place) & (length > highest)
    return ridges


def _make_averaging(length: int, side: float, device: torch.device) -> Tensor:
    """The matrix that puts the mean of its block in place of each of `length` values."""
    count = max(1, round(length / side))
    block = torch.arange(length, device=device) * count // length
    neighbours = (block[:, None] == block[None]).float()
    return neighbours / neighbours.sum(1, keepdim=True)
