"""Decode and encode clips: an image, an animation, a video or a folder of frames, as F H W 3."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped, UInt8
from numpy.typing import NDArray
from torch import Tensor

from frisket.media import images, videos
from frisket.media.foreign import decoding
from frisket.media.images import PixelArray, PixelReading, Way
from frisket.media.moving import animated, writing
from frisket.media.moving.clock import STILL, Clock
from frisket.media.paths import IMAGES, VIDEOS, BadMedia, frames_in
from frisket.media.picks import ExtractionMode, extract, resample
from frisket.shapes import Frames

__all__ = [
    "BadMedia",
    "ExtractionMode",
    "LabelWriter",
    "Media",
    "decode",
    "decode_alpha",
    "decode_grey",
    "decode_index",
    "decode_numbers",
    "decode_stored",
    "extract",
    "open_video_writer",
    "probe",
    "resample",
    "stream",
    "try_decoding",
    "write_image",
    "write_video",
    "writing_labels",
]


@dataclass(frozen=True, slots=True)
class Media:
    """What a clip or mask file is: everything that asks for size, time or colour asks here.

    Height and width are in pixels as seen: turned, mirrored, and square.
    """

    path: Path
    frames: int  # that can be decoded, counted
    height: int
    width: int
    fps: float | None  # the mean where it varies; None where no time is told (images, folders)
    alpha: bool  # has an alpha channel, or palette transparency
    video: bool  # a video, an animation or a folder of frames
    clock: Clock = STILL  # when each frame begins
    stored: tuple[int, int] | None = None  # height, width before pixels were made square, if not
    reading: tuple[str, ...] = ()  # what is done to its pixels besides decoding, for cache keys
    remarks: tuple[str, ...] = ()  # what a user may want to know of it; see `moving.remarks`

    @property
    def times(self) -> tuple[float, ...] | None:
        """Seconds after the first frame at which each begins; None where no time is told."""
        return self.clock.begins()

    def remarks_at(self, fps: float | int | None) -> tuple[str, ...]:
        """The remarks of a clip that is taken at `fps`: pauses that this shortens as well."""
        if fps and self.clock.measure_pauses(fps) > 1 / fps:
            return (*self.remarks, "pauses")
        return self.remarks

    def dump(self) -> list[Any]:
        """All but the path, as JSON."""
        fields = [self.frames, self.height, self.width, self.fps, self.alpha, self.video]
        stored = None if self.stored is None else list(self.stored)
        return [*fields, self.clock.dump(), stored, list(self.reading), list(self.remarks)]

    @staticmethod
    def parse(path: Path, fields: Sequence[Any]) -> "Media":
        """The inverse of `dump`."""
        frames, height, width, fps, alpha, video, clock, stored, *texts = fields
        reading, remarks = map(tuple, texts)
        size = None if stored is None else (stored[0], stored[1])
        rest = (Clock.parse(clock), size, reading, remarks)
        return Media(path, frames, height, width, fps, alpha, video, *rest)


def _classify(path: Path) -> str:
    if path.is_dir():
        return "folder"
    suffix = path.suffix.lower()
    if suffix in IMAGES:
        return "image"
    if suffix in VIDEOS:
        return "video"
    raise BadMedia(
        f"{path}: {path.suffix or 'no suffix'} is not an image or video suffix; known are"
        f" {' '.join(IMAGES + VIDEOS)}"
    )


def probe(path: Path) -> Media:
    """Look at a file without decoding more than its first frame.

    A folder of frames counts as a video. The frame count is that of frames that decode, not the
    header's. Raises BadMedia, which names the file, the fault and the fix.
    """
    kind = _classify(path)
    if kind == "video":
        return _describe_video(path, videos.survey(path))
    paths = frames_in(path) if kind == "folder" else [path]
    with images.open_image(paths[0]) as image:
        height, width = images.size_of(image)
        alpha = image.has_transparency_data or "transparency" in image.info
        if kind == "folder":
            clock = Clock(len(paths))
            return Media(path, len(paths), height, width, None, alpha, True, clock)
        count = animated.frames_of(image, path)
        clock = animated.clock_of(image, count)
    fps = None if clock.rate is None else float(clock.rate)
    remarks = ("variable frame rate",) if clock.variable else ()
    reading = animated.reading_of(image)
    return Media(path, count, height, width, fps, alpha, count > 1, clock, None, reading, remarks)


def _describe_video(path: Path, footage: videos.Footage) -> Media:
    rate = footage.clock.rate
    return Media(
        path,
        footage.clock.frames,
        *footage.size,
        None if rate is None else float(rate),
        footage.alpha,
        True,
        footage.clock,
        None if footage.stored == footage.size else footage.stored,
        footage.reading(),
        footage.remarks(),
    )


def _check_picks(path: Path, picks: Sequence[int], count: int) -> None:
    if picks[-1] >= count:
        raise BadMedia(
            f"{path}: frame {picks[-1]} (counted from 0) was asked for, but it has only {count}"
        )


def _read_arrays(
    path: Path, picks: Sequence[int], reading: Way, *, square: bool = True
) -> Iterator[tuple[int, PixelArray]]:
    kind = _classify(path)
    if kind == "video":
        how = "rgb" if reading == "stored" else reading
        yield from videos.read(path, picks, how, square=square)
        return
    if kind == "folder":
        paths = frames_in(path)
        _check_picks(path, picks, len(paths))
        for index in picks:
            with images.open_image(paths[index]) as image:
                yield index, images.read(image, paths[index], reading)
        return
    with images.open_image(path) as image:
        _check_picks(path, picks, animated.frames_of(image, path))
        palette = animated.palette_of(image) if reading == "index" else None
        for index in picks:
            animated.seek(image, index)
            frame = palette.label(image) if palette else image
            yield index, images.read(frame, path, reading)


def _read(path: Path, picks: Sequence[int] | None, reading: Way, *, square: bool = True) -> Tensor:
    picks = range(probe(path).frames) if picks is None else picks
    if not len(picks) or min(picks) < 0:
        raise ValueError(f"{path}: picks {list(picks)} name no frames; indices count from 0")
    with decoding(path):
        return _stack(path, picks, reading, square=square)


def _stack(path: Path, picks: Sequence[int], reading: Way, *, square: bool) -> Tensor:
    slots: dict[int, list[int]] = {}
    for slot, index in enumerate(picks):
        slots.setdefault(index, []).append(slot)
    out: PixelArray | None = None
    for index, array in _read_arrays(path, sorted(slots), reading, square=square):
        if len(picks) == 1 and array.flags.writeable and array.flags.c_contiguous:
            return torch.from_numpy(array[None])  # spares a still the copy
        if out is None:
            out = np.empty((len(picks), *array.shape), array.dtype)
        elif array.shape != out.shape[1:]:
            raise _refuse_resize(path, index, array.shape, out.shape[1:])
        out[slots[index]] = array
    assert out is not None  # every reader yields each wanted frame or raises
    return torch.from_numpy(out)


def try_decoding(path: Path, picks: Sequence[int]) -> None:
    """Decode frames as `decode` does, holding one at a time; BadMedia where it would raise that."""
    first: tuple[int, ...] | None = None
    for index, array in _read_arrays(path, sorted(set(picks)), "rgb"):
        first = first or array.shape
        if array.shape != first:
            raise _refuse_resize(path, index, array.shape, first)


def _refuse_resize(
    path: Path, index: int, now: tuple[int, ...], before: tuple[int, ...]
) -> BadMedia:
    return BadMedia(
        f"{path}: frame {index} is {now[1]} x {now[0]}, the frames before it are"
        f" {before[1]} x {before[0]} (width x height); bring all to one size"
    )


def decode(path: Path, picks: Sequence[int] | None = None) -> Frames:
    """RGB frames as seen, in sRGB, 0 to 255; alpha is dropped, not blended.

    `picks` are source frames counted from 0, in any order; None takes all. Decoding stops after
    the last one picked. Deeper than 8 bits is scaled down, CMYK and palettes are converted; HDR
    and wide gamuts of videos are brought to sRGB (`media.moving.colour`). Raises BadMedia (see
    `probe`), also where a pick lies beyond the frames that decode.
    """
    return _read(path, picks, "rgb")


def decode_stored(path: Path, picks: Sequence[int] | None = None) -> Frames:
    """What `decode` gives, before pixels are made square (`Media.read_orientation`).

    For a geometry that resamples them once.
    """
    return _read(path, picks, "rgb", square=False)


def decode_numbers(path: Path, picks: Sequence[int] | None = None) -> Frames:
    """As `decode`, but the numbers of the file whatever its colour profile: masks by colour."""
    return _read(path, picks, "stored")


def decode_grey(path: Path, picks: Sequence[int] | None = None) -> Float[Tensor, "F H W"]:
    """Grey levels in [0, 1], 8 or 16 bit; what a grey mask is read with.

    Colour is refused with BadMedia (up to 16 levels of tint pass in lossy files); so is a mask with
    transparency. In lossy files levels within 4 of black or white become 0 and 1.
    """
    return _read(path, picks, "grey")


def decode_alpha(path: Path, picks: Sequence[int] | None = None) -> Float[Tensor, "F H W"]:
    """The alpha channel in [0, 1], palette transparency included; BadMedia where there is none."""
    return _read(path, picks, "alpha")


def decode_index(path: Path, picks: Sequence[int] | None = None) -> Int[Tensor, "F H W"]:
    """Label numbers: palette indices or grey values as stored, never through RGB.

    BadMedia for coloured files and for lossy ones, whose labels cannot be trusted.
    """
    return _read(path, picks, "index")


def stream(path: Path, reading: PixelReading = "rgb") -> Iterator[Shaped[Tensor, "H W *channels"]]:
    """Every frame in order, decoded when asked for, so that memory is flat in the clip's length.

    `reading` as the four functions above: "rgb" gives H W 3, "grey" and "alpha" H W in [0, 1],
    "index" H W label numbers. BadMedia (see `probe`); a video with a broken tail raises it after
    its last good frame, and tells how many there were.
    """
    first: tuple[int, ...] | None = None
    for index, array in enumerate(_read_all(path, reading)):
        first = first or array.shape
        if array.shape != first:
            raise _refuse_resize(path, index, array.shape, first)
        yield torch.from_numpy(np.require(array, requirements=["C", "W"]))


def _read_all(path: Path, reading: PixelReading) -> Iterator[PixelArray]:
    kind = _classify(path)
    if kind == "video":
        return videos.stream(path, reading)
    if kind == "folder":
        count = len(frames_in(path))
    else:
        with images.open_image(path) as image:
            count = animated.frames_of(image, path)
    return (array for _, array in _read_arrays(path, range(count), reading))


@dataclass(frozen=True, slots=True)
class LabelWriter:
    """Takes the frames of a grey video one by one; see `writing_labels`."""

    append: Callable[[NDArray[np.uint8]], None]

    def add(self, frame: UInt8[Tensor, "H W"]) -> None:
        """Append one frame: label numbers or grey levels; ValueError where the size changes."""
        self.append(frame.cpu().numpy())


@contextmanager
def writing_labels(path: Path, fps: float | int, comment: str = "") -> Iterator[LabelWriter]:
    """Write labels or grey levels frame by frame as FFV1 .mkv, bit exact and atomically.

    `comment` is kept in the file's metadata. ValueError for another suffix, and for no frames.
    """
    with writing.writing_labels(path, fps, comment) as append:
        yield LabelWriter(append)


@dataclass(frozen=True, slots=True)
class VideoWriter:
    """Takes the frames of a colour video one by one; see `open_video_writer`."""

    append: Callable[[NDArray[np.uint8]], None]

    def add(self, frame: UInt8[Tensor, "H W 3"]) -> None:
        """Append one RGB frame; ValueError where the size changes."""
        self.append(frame.cpu().numpy())


@contextmanager
def open_video_writer(path: Path, fps: float | int) -> Iterator[VideoWriter]:
    """Write RGB frame by frame as FFV1 .mkv, bit exact and atomically.

    ValueError for another suffix, and for no frames.
    """
    with writing.open_video_writer(path, fps) as append:
        yield VideoWriter(append)


def write_image(path: Path, frame: UInt8[Tensor, "H W 3"]) -> None:
    """Save one frame atomically as PNG, JPEG, WebP (lossless), BMP or TIFF, by suffix."""
    images.write(path, frame.cpu().numpy())


def write_video(path: Path, frames: Frames, fps: float | int, *, lossless: bool = False) -> None:
    """Save frames atomically: H.264 .mp4, or FFV1 .mkv that reads back bit for bit (`lossless`).

    Raises ValueError for another suffix, and for odd sides in H.264; nothing is padded or cut.
    """
    writing.write(path, frames.cpu().numpy(), fps, lossless)
