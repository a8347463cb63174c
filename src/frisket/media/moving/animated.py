"""Animated GIF, WebP, PNG and AVIF: which pictures are frames, and when each begins."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frisket.media import images
from frisket.media.moving.clock import Clock, read_clock

MILLISECOND = Fraction(1, 1000)
INSTEAD = 100  # ms that browsers show a frame whose duration is 0, or that of a GIF's hundredth
SHORTEST = {"GIF": 10}  # ms; what does not last longer is shown for INSTEAD


def frames_of(image: Image.Image, path: Path) -> int:
    """1, or the frames of an animation; BadMedia for too many.

    The picture that a PNG shows where animation is not understood is no frame, unless the file
    says it is.
    """
    count = images.frames_of(image, path)
    return max(count - _count_hidden(image), 1)


def _count_hidden(image: Image.Image) -> int:
    """Pictures before the first frame."""
    return int(bool(getattr(image, "default_image", False)))


def seek(image: Image.Image, index: int) -> None:
    """Go to a frame, counted from 0."""
    place = index + _count_hidden(image)
    if place != image.tell():
        image.seek(place)


def clock_of(image: Image.Image, count: int) -> Clock:
    """When the `count` frames of an animation begin; no rate where no durations are given.

    A frame without a duration (0, and up to 10 ms in a GIF) lasts 100 ms, as in browsers.
    """
    durations = [_read_duration(image, index) for index in range(count)]
    if count < 2 or not any(durations):
        return Clock(count)
    shortest = SHORTEST.get(image.format or "", 0)
    lengths = [duration if duration > shortest else INSTEAD for duration in durations]
    stamps = [0, *accumulate(lengths[:-1])]
    mean = Fraction(1000 * count, sum(lengths))
    if len(set(lengths)) == 1:
        return Clock(count, mean)
    return read_clock(stamps, MILLISECOND, lengths[-1], [mean])


def _read_duration(image: Image.Image, index: int) -> int:
    seek(image, index)
    image.load()  # WebP tells a frame's duration only then
    return round(float(image.info.get("duration", 0) or 0))


def reading_of(image: Image.Image) -> tuple[str, ...]:
    """What is done besides decoding, for cache keys."""
    return ("hidden picture skipped",) if _count_hidden(image) else ()


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of an animation's first frame, by which later frames are read as labels.

    Pillow gives later frames of a GIF as colours: each may have a palette of its own, and may hold
    only what changed.
    """

    colours: NDArray[np.uint8]  # n 3, by index
    clear: int | None  # index of transparent pixels

    def label(self, image: Image.Image) -> Image.Image:
        """The current frame as palette indices; as it is, where it has colours of its own."""
        if image.mode not in ("RGB", "RGBA"):
            return image
        pixels = np.asarray(image.convert("RGBA"))
        codes = _pack_codes(self.colours)
        known_codes, first = np.unique(codes, return_index=True)
        frame = _pack_codes(pixels)
        place = np.searchsorted(known_codes, frame).clip(max=len(known_codes) - 1)
        hidden = (pixels[..., 3] == 0) if self.clear is not None else np.zeros(frame.shape, bool)
        if not (hidden | (known_codes[place] == frame)).all():
            return image
        labels = np.where(hidden, self.clear or 0, first[place]).astype(np.uint8)
        return Image.fromarray(labels)


def _pack_codes(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    red, green, blue = (colours[..., channel].astype(np.int64) for channel in range(3))
    return (red << 16) + (green << 8) + blue


def palette_of(image: Image.Image) -> Palette | None:
    """Of a GIF that is not grey; None for what keeps its indices."""
    if image.format != "GIF":
        return None
    seek(image, 0)
    palette_levels = image.getpalette("RGB")
    if palette_levels is None:
        palette_levels = [level for level in range(256) for _ in range(3)]
    clear = image.info.get("transparency")
    colours = np.array(palette_levels, np.uint8).reshape(-1, 3)
    return Palette(colours, clear if isinstance(clear, int) else None)
