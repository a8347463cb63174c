"""One decoded frame of a video to colours, grey levels, alpha or label numbers, as it is stored."""

from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from frisket.media.images import (
    SNAP,
    TINT,
    PixelArray,
    PixelReading,
    measure_tint,
    refuse_colour,
    snap_levels,
)
from frisket.media.moving.colour import Colour, to_rgb
from frisket.media.paths import BadMedia

# By the codec; others may be set to lose nothing, but their files do not say so soon.
LOSSLESS = {"ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png", "apng", "qtrle", "gif"}
_LOSSLESS_ALPHA = {*LOSSLESS, "prores"}


def has_alpha(frame: VideoFrame) -> bool:
    """Whether the frame's format has an alpha channel."""
    return any(part.is_alpha for part in frame.format.components)


def read_frame(
    path: Path, frame: VideoFrame, reading: PixelReading, codec: str, colour: Colour
) -> PixelArray:
    """H W 3 uint8 in sRGB, H W float32 in [0, 1], or H W int32 labels.

    Masks are numbers: `colour` is for pictures alone. BadMedia as the four functions of
    `media.frames` say.
    """
    lossless = codec in LOSSLESS
    match reading:
        case "rgb":
            return to_rgb(frame, colour)
        case "grey":
            _refuse_clear(path, frame, codec)
            return _read_grey(path, frame, lossless)
        case "alpha":
            if not has_alpha(frame):
                raise BadMedia(
                    f"{path}: has no alpha channel ({frame.format.name}); use ProRes 4444, VP9 WebM"
                    " or FFV1 with alpha, or take the mask from a folder"
                )
            return _read_alpha(frame, codec)
        case "index":
            return _read_index(path, frame, lossless)


def _read_alpha(frame: VideoFrame, codec: str) -> NDArray[np.float32]:
    levels: PixelArray = frame.to_ndarray(format="rgba")[..., 3]
    if codec not in _LOSSLESS_ALPHA:
        return snap_levels(levels)
    return levels.astype(np.float32) / np.float32(255)


def _refuse_clear(path: Path, frame: VideoFrame, codec: str) -> None:
    """BadMedia for a mask frame with transparency, whose alpha may be the mask that is meant."""
    if not has_alpha(frame):
        return
    clearest = float(_read_alpha(frame, codec).min())
    if clearest < 1:
        raise BadMedia(
            f"{path}: a mask video with transparency (alpha down to {clearest * 255:.0f}), so"
            " either could be the mask; write its alpha out as a grey video, flatten it on black,"
            ' or use masks = "alpha" on a clip that has it'
        )


def _snap_deep(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Deep levels of a lossy file with what is next to black and white taken for them."""
    near = np.float32((SNAP + 0.5) / 255)
    levels[levels < near] = 0
    levels[levels > 1 - near] = 1
    return levels


def _read_grey(path: Path, frame: VideoFrame, lossless: bool) -> NDArray[np.float32]:
    kind = frame.format.name
    if kind.startswith("gray") and frame.format.components[0].bits > 8:
        deep: PixelArray = frame.to_ndarray(format="gray16le")
        levels: NDArray[np.float32] = (deep.astype(np.float64) / 65535).astype(np.float32)
        return levels if lossless else _snap_deep(levels)
    rgb: PixelArray = frame.to_ndarray(format="rgb24")
    tint = measure_tint(rgb)
    if tint > (0 if lossless and frame.format.is_rgb else TINT):
        raise refuse_colour(path, tint)
    if lossless and (tint == 0):
        return rgb[..., 0].astype(np.float32) / np.float32(255)
    grey: PixelArray = frame.to_ndarray(format="gray")
    return grey.astype(np.float32) / np.float32(255) if lossless else snap_levels(grey)


def _read_index(path: Path, frame: VideoFrame, lossless: bool) -> NDArray[np.int32]:
    kind = frame.format.name
    if not lossless or not (frame.format.is_rgb or kind.startswith("gray")):
        raise BadMedia(
            f"{path}: a label video in {kind} whose compression changes label values; write it as"
            " FFV1 (bgr0 or gray) in .mkv, or as a folder of PNG frames"
        )
    if kind.startswith("gray"):
        return frame.to_ndarray().astype(np.int32)
    rgb: PixelArray = frame.to_ndarray(format="rgb24")
    if tint := measure_tint(rgb):
        raise BadMedia(
            f"{path}: holds colours (channels differ by up to {tint}), not label numbers; give the"
            " `legend` RGB colours, or write the labels as grey"
        )
    return rgb[..., 0].astype(np.int32)
