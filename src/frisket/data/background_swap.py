"""Background swap: a clip laid over another background under its mask, and drawn backgrounds."""

from typing import Any, Literal

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from torch import Tensor

from frisket.shapes import Frames, Plane

Bytes = NDArray[np.uint8]  # H W 3
_Pixels = NDArray[Any]  # float32, H W or H W 3
_Picture = UInt8[Tensor, "H W 3"]
Grounds = UInt8[Tensor, "G Y X 3"]  # checked by hand: its errors name the sizes
Drawn = tuple[_Picture, str]  # a background and the words that describe it

SOLID = 0.95  # at least this much subject: the pixel shows the subject's own colour
NEAR = 32  # pixels around the seam that its colours are carried from
EMPTY = 0.05  # at most this much subject: the pixel shows the old background's own colour
DOUBT = 0.5  # how far a soft pixel leans on the colour near it (0.4 to 0.8 measured best)

COLOURS: dict[str, tuple[int, int, int]] = {
    "black": (20, 20, 20),
    "blue": (40, 80, 220),
    "brown": (120, 75, 40),
    "cyan": (60, 210, 220),
    "green": (40, 170, 60),
    "grey": (128, 128, 128),
    "orange": (245, 140, 20),
    "pink": (255, 150, 190),
    "purple": (130, 50, 190),
    "red": (220, 40, 40),
    "white": (240, 240, 240),
    "yellow": (235, 210, 50),
}


def composite(
    frames: Frames,
    keep: Plane,
    background: Grounds,
    *,
    feather: float = 0.0,
    despill: float = 0.0,
) -> Frames:
    """Lay what `keep` (1 = stays) covers over another background, uint8 as the clip.

    Colour is a frame + (1 - a) background under a = `keep`, blurred by `feather` pixels (0 leaves
    the mask's own soft edge). A background of one frame serves every frame. Without feather, pixels
    of keep 1 are the clip's and pixels of keep 0 the background's, bit for bit.

    `despill` in [0, 1] takes the old background out of the edge: a soft pixel is
    C = a S + (1 - a) B with B the old background's colour near it, which is solved for the
    subject's S, leaning on the subject's colour near it where a is small (the ridge solution:
    sharp where it is certain, no coloured noise where it is not). Where the feather reaches past
    the mask, the subject's colour is carried on instead of showing the old background.
    What it cannot mend: a mask cut too wide (pixels of keep 1 stay as they are: shrink it), and one
    that was blurred before (no true matte, its rim comes out dark: give the unblurred one, and
    `feather` here). A clip that is all subject or all background near the edge stays as it is.

    ValueError where sizes or frame counts differ, or for a value out of range.
    """
    _check(frames, keep, background, feather=feather, despill=despill)
    result = torch.empty_like(frames)
    for index in range(len(frames)):
        ground = background[index if len(background) > 1 else 0].numpy()
        alpha = keep[index].float().numpy()
        blended = _lay(frames[index].numpy(), alpha, ground, feather, despill)
        result[index] = torch.from_numpy(blended)
    return result


def _check(
    frames: Tensor, keep: Tensor, background: Tensor, *, feather: float, despill: float
) -> None:
    if keep.shape != frames.shape[:3]:
        raise ValueError(f"swap: a mask of {tuple(keep.shape)} for a clip of {tuple(frames.shape)}")
    if background.shape[1:3] != frames.shape[1:3] or len(background) not in (1, len(frames)):
        raise ValueError(
            f"swap: a background of {tuple(background.shape)} for a clip of {tuple(frames.shape)}:"
            " cut it to the clip's size, with one frame or as many as the clip"
        )
    if not 0 <= feather < float("inf"):
        raise ValueError(f"swap: feather is {feather} pixels; use 0 or more")
    if not 0 <= despill <= 1:
        raise ValueError(f"swap: despill is {despill}; use 0 (off) to 1 (whole)")


def _soften(alpha: _Pixels, radius: float) -> _Pixels:
    if radius == 0:
        return alpha
    side = 2 * int(np.ceil(radius)) + 1
    blurred = cv2.GaussianBlur(
        alpha.astype(np.float64), (side, side), radius / 2, borderType=cv2.BORDER_REPLICATE
    )
    return blurred.clip(0, 1).astype(np.float32)


def _lay(picture: Bytes, alpha: _Pixels, ground: Bytes, feather: float, despill: float) -> Bytes:
    soft = _soften(alpha, feather)
    result = np.where((soft >= 1)[..., None], picture, ground)
    seam = (soft > 0) & (soft < 1)
    subject = picture[seam].astype(np.float32)
    if despill > 0 and seam.any():
        subject += np.float32(despill) * (_solve_subject(picture, alpha, seam) - subject)
    behind = ground[seam].astype(np.float32)
    result[seam] = np.rint(behind + soft[seam][:, None] * (subject - behind)).astype(np.uint8)
    return result


def _solve_subject(picture: Bytes, alpha: _Pixels, seam: NDArray[np.bool_]) -> _Pixels:
    """The subject's own colour at the pixels of the seam (N 3), in [0, 255]."""
    rows, columns = np.nonzero(seam)
    around = (
        slice(max(0, rows.min() - NEAR), rows.max() + NEAR),
        slice(max(0, columns.min() - NEAR), columns.max() + NEAR),
    )
    picture, alpha, seam = picture[around], alpha[around], seam[around]
    solid, empty = alpha >= SOLID, alpha <= EMPTY
    own = picture[seam].astype(np.float32)
    if not (solid.any() and empty.any()):
        return own  # nothing to tell the two colours apart by
    near_subject, near_ground = _carry(picture, solid)[seam], _carry(picture, empty)[seam]
    a = alpha[seam][:, None]
    # Ridge: minimise |C - a S - (1-a) B|^2 + DOUBT (1-a) |S - near_subject|^2 over S.
    gain = a / (a * a + DOUBT * (1 - a))
    solved = near_subject + gain * (own - a * near_subject - (1 - a) * near_ground)
    result: _Pixels = np.where(a <= EMPTY, near_subject, solved).clip(0, 255)
    return result


def _carry(picture: Bytes, known: NDArray[np.bool_]) -> _Pixels:
    """Carry colours from known pixels to all others, from ever wider neighbourhoods (a pyramid)."""
    weight: _Pixels = known.astype(np.float32)
    pyramid: list[tuple[_Pixels, _Pixels]] = [(picture * weight[..., None], weight)]
    while max(weight.shape) > 1:
        size = ((weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2)
        wider = [cv2.resize(level, size, interpolation=cv2.INTER_AREA) for level in pyramid[-1]]
        weight = wider[1]
        pyramid.append((wider[0], weight))
    colour: _Pixels = pyramid[-1][0] / pyramid[-1][1][..., None]
    for summed, weight in reversed(pyramid):
        size = (weight.shape[1], weight.shape[0])
        wide: _Pixels = cv2.resize(colour, size, interpolation=cv2.INTER_LINEAR)
        # A cell counts as far as it is known; the summed colour is already weighted by that.
        colour = wide + summed - weight[..., None] * wide
    return colour


def flat(colour: str, height: int, width: int) -> Drawn:
    """One colour of `COLOURS`, e.g. "a plain green background"."""
    if colour not in COLOURS:
        raise ValueError(f"swap: no colour {colour!r}; there are: {', '.join(COLOURS)}")
    picture = np.full((height, width, 3), COLOURS[colour], np.float32)
    return _finish(picture), f"a plain {colour} background"


def gradient(rng: np.random.Generator, height: int, width: int) -> Drawn:
    """Two colours that fade into each other, e.g. "a background fading from red to blue ..."."""
    first, second = (str(name) for name in rng.choice(sorted(COLOURS), 2, replace=False))
    rows, columns = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    middle = np.hypot(rows - 0.5, columns - 0.5) / np.hypot(0.5, 0.5)
    ways = {
        "from top to bottom": rows,
        "from left to right": columns,
        "from the centre to the edges": middle,
    }
    way = str(rng.choice(sorted(ways)))
    share = ways[way][..., None].astype(np.float32)
    start, end = (np.array(COLOURS[name], np.float32) for name in (first, second))
    words = f"a background fading from {first} to {second} {way}"
    return _finish(start + share * (end - start)), words


def noise(rng: np.random.Generator, height: int, width: int) -> Drawn:
    """Random specks or blotches, in colour or grey, e.g. "a background of fine grey noise"."""
    hue = str(rng.choice(["colourful", "grey"]))
    grain = str(rng.choice(["fine", "blotchy"]))
    cell = 1 if grain == "fine" else max(2, round(max(height, width) / 12))
    size = (-(-height // cell), -(-width // cell), 3 if hue == "colourful" else 1)
    values = rng.uniform(0, 255, size).astype(np.float32)
    spread = cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC)
    picture = np.broadcast_to(spread.reshape(height, width, -1), (height, width, 3))
    return _finish(picture), f"a background of {grain} {hue} noise"


def draw(
    kind: Literal["flat", "gradient", "noise"], rng: np.random.Generator, height: int, width: int
) -> Drawn:
    """One drawn background of a kind, and the words for the caption; the same for the same rng."""
    if kind == "flat":
        return flat(str(rng.choice(sorted(COLOURS))), height, width)
    if kind in ("gradient", "noise"):
        return (gradient if kind == "gradient" else noise)(rng, height, width)
    raise ValueError(f"swap: no drawn background {kind!r}; use flat, gradient or noise")


def _finish(picture: _Pixels) -> _Picture:
    return torch.from_numpy(np.rint(picture).clip(0, 255).astype(np.uint8))
