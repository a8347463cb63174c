"""From the stored picture of a video to the one a player shows: turned, mirrored, pixels square."""

import struct
from dataclasses import dataclass
from fractions import Fraction
from math import hypot
from typing import Any

import cv2
import numpy as np
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

FrameSize = tuple[int, int]  # (height, width)

SQUARE = 0.01  # a sample aspect this near to 1 is rounding of sizes, not a shape
UPRIGHT = 0.02  # of the matrix's length that may point elsewhere: about one degree


@dataclass(frozen=True, slots=True)
class Rotation:
    """One of the eight ways a stored picture is laid on the screen: transposed first, then flips.

    `odd` tells of a display matrix that is none of them (a turn by 30 degrees, a shear): the
    nearest is taken.
    """

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False
    odd: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether writing would be seen in a mirror."""
        return self.transpose ^ self.flip_x ^ self.flip_y

    def size(self, stored: FrameSize) -> FrameSize:
        """Height and width after the turn."""
        return (stored[1], stored[0]) if self.transpose else stored

    def lay(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of H W (channels) as it is displayed."""
        if self.transpose:
            array = array.swapaxes(0, 1)
        if self.flip_x:
            array = array[:, ::-1]
        return array[::-1] if self.flip_y else array


def read_matrix(matrix: bytes) -> Rotation:
    """The turn of a display matrix as FFmpeg hands it on.

    Nine 16.16 fixed-point numbers a b u c d v x y w: the point (p, q) of the stored picture is
    shown at (a p + c q + x, b p + d q + y). ISO/IEC 14496-12, 8.3.2 (`tkhd`); libavutil/display.h.
    """
    a, b, _, c, d = struct.unpack("=9i", matrix)[:5]
    straight, crossed = hypot(a, d), hypot(b, c)
    if not (a or b or c or d):
        return Rotation()
    odd = min(straight, crossed) > UPRIGHT * max(straight, crossed)
    if straight >= crossed:
        return Rotation(False, a < 0, d < 0, odd)
    return Rotation(True, c < 0, b < 0, odd)


def turn_of(frame: VideoFrame) -> Rotation:
    """How a decoded frame is turned; not at all where it says nothing."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return read_matrix(bytes(matrix)) if isinstance(matrix, SideData) else Rotation()


def aspect_of(stream: VideoStream) -> Fraction:
    """Width of a stored pixel over its height; 1 where nothing is told, or nearly nothing."""
    ratio = stream.sample_aspect_ratio
    if not ratio or ratio < 0 or abs(float(ratio) - 1) <= SQUARE:
        return Fraction(1)
    return Fraction(ratio)


def make_square(stored: FrameSize, aspect: Fraction) -> FrameSize:
    """Height and width in square pixels: the width is scaled, as an MP4's header tells it."""
    return stored[0], max(round(stored[1] * aspect), 1)


def fit(array: NDArray[Any], size: FrameSize) -> NDArray[Any]:
    """Resample to (height, width).

    Colours (uint8) by Lanczos, levels (float) by area means or linearly, labels (int) by the
    nearest pixel, so that none is mixed.
    """
    if array.shape[:2] == size:
        return array
    height, width = size
    if array.dtype == np.uint8:
        picture = Image.fromarray(np.ascontiguousarray(array))
        return np.array(picture.resize((width, height), Image.Resampling.LANCZOS))
    if array.dtype == np.float32:
        shrinks = height * width < array.shape[0] * array.shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        scaled_picture: NDArray[Any] = cv2.resize(
            np.ascontiguousarray(array), (width, height), interpolation=how
        )
        return scaled_picture
    rows = ((np.arange(height) + 0.5) * array.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * array.shape[1] / width).astype(np.int64)
    nearest: NDArray[Any] = array[rows][:, columns]
    return nearest
