"""Animated GIF, WebP, PNG and AVIF: which pictures are frames, and when each begins."""

from fractions import Fraction
from itertools import accumulate
from pathlib import Path

from PIL import GifImagePlugin, Image

from frisket.media import images
from frisket.media.moving.clock import Clock, read_clock

MILLISECOND = Fraction(1, 1000)
INSTEAD = 100  # ms that browsers show a frame whose duration is 0, or that of a GIF's hundredth
SHORTEST = {"GIF": 10}  # ms; what does not last longer is shown for INSTEAD

# Frames stay palette indices as long as the palette is the same: labels would be lost with them.
GifImagePlugin.LOADING_STRATEGY = GifImagePlugin.LoadingStrategy.RGB_AFTER_DIFFERENT_PALETTE_ONLY


def frames_of(image: Image.Image, path: Path) -> int:
    """1, or the frames of an animation; BadMedia for too many.

    The picture that a PNG shows where animation is not understood is no frame, unless the file
    says it is.
    """
    count = images.frames_of(image, path)
    return max(count - _hidden(image), 1)


def _hidden(image: Image.Image) -> int:
    """Pictures before the first frame."""
    return int(bool(getattr(image, "default_image", False)))


def seek(image: Image.Image, index: int) -> None:
    """Go to a frame, counted from 0."""
    place = index + _hidden(image)
    if place != image.tell():
        image.seek(place)


def clock_of(image: Image.Image, count: int) -> Clock:
    """When the `count` frames of an animation begin; no rate where no durations are given.

    A frame without a duration (0, and up to 10 ms in a GIF) lasts 100 ms, as in browsers.
    """
    told = [_duration(image, index) for index in range(count)]
    if count < 2 or not any(told):
        return Clock(count)
    shortest = SHORTEST.get(image.format or "", 0)
    lengths = [each if each > shortest else INSTEAD for each in told]
    stamps = [0, *accumulate(lengths[:-1])]
    mean = Fraction(1000 * count, sum(lengths))
    if len(set(lengths)) == 1:
        return Clock(count, mean)
    return read_clock(stamps, MILLISECOND, lengths[-1], [mean])


def _duration(image: Image.Image, index: int) -> int:
    seek(image, index)
    image.load()  # WebP tells a frame's duration only then
    return round(float(image.info.get("duration", 0) or 0))


def reading_of(image: Image.Image) -> tuple[str, ...]:
    """What is done besides decoding, for cache keys."""
    return ("hidden picture skipped",) if _hidden(image) else ()
