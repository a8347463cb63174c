"""One video file to arrays and back, counted and read frame by frame through PyAV."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import CodecContext
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from frisket.media.foreign import PIXELS, check_pixels, decoding
from frisket.media.images import TINT, Array, Reading, refuse_colour, snapped, spread
from frisket.media.paths import BadMedia, replacing

# One packet is one frame in these; others (MPEG-4 packed B-frames, VP8 hidden frames) are decoded
# to be counted.
_COUNTABLE = {"h264", "hevc", "av1", "vp9", "ffv1", "mjpeg", "png", "prores", "rawvideo", "dnxhd"}
_LOSSLESS = {"ffv1", "huffyuv", "ffvhuff", "utvideo", "rawvideo", "png", "apng", "qtrle", "gif"}
# libavcodec's own VP8 and VP9 decoders drop the alpha channel that WebM keeps beside the picture.
_DURATION = re.compile(r"(\d{1,4}):(\d\d?):(\d\d?(?:\.\d{1,9})?)")  # as FFmpeg writes it to .mkv
_LIMITS = {"max_pixels": str(PIXELS)}  # a stream may tell a larger size than its header
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True, slots=True)
class Footage:
    """What one pass over a video found; height and width as displayed, fps None if not told."""

    frames: int
    height: int
    width: int
    fps: float | None
    alpha: bool


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream; whatever is raised while it is open becomes BadMedia.

    Frames of more than `foreign.PIXELS` pixels are refused by the header.
    """
    broken = (
        "not a video that can be decoded, or one cut short ({reason}); copy it again from its"
        " source, re-encode it, or remove it"
    )
    with decoding(path, broken):
        if not path.is_file():
            raise BadMedia(f"{path}: there is no such file")
        if not path.stat().st_size:
            raise BadMedia(f"{path}: the file is empty (0 bytes); copy it again or remove it")
        # Absolute, lest a colon in a file name be taken for a protocol.
        with av.open(str(path.absolute()), metadata_errors="replace") as container:
            stream = container.streams.best("video")
            if not isinstance(stream, VideoStream):
                raise BadMedia(f"{path}: holds no video stream; re-encode it as MP4 or remove it")
            check_pixels(path, stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.options = _LIMITS
            yield container, stream


def _turns(frame: VideoFrame) -> int:
    """Quarter turns anticlockwise from the stored picture to the one displayed."""
    return round(frame.rotation / 90) % 4


def _pictures(path: Path, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Every frame in display order; BadMedia where the frame size changes."""
    decoder: Any = stream
    if stream.metadata.get("alpha_mode") == "1" and stream.codec_context.name in _WITH_ALPHA:
        decoder = CodecContext.create(_WITH_ALPHA[stream.codec_context.name], "r")
        decoder.extradata, decoder.options = stream.codec_context.extradata, _LIMITS
    else:
        stream.thread_type = "AUTO"
    size: tuple[int, int] | None = None
    for packet in container.demux(stream):
        for index, frame in enumerate(decoder.decode(packet)):
            size = size or (frame.width, frame.height)
            if size != (frame.width, frame.height):
                raise BadMedia(
                    f"{path}: the frame size changes from {size[0]} x {size[1]} to {frame.width} x"
                    f" {frame.height} midway (at {frame.time or index} s); re-encode it at one size"
                )
            yield frame


def survey(path: Path) -> Footage:
    """Count the frames that decode and read size, rate and alpha, decoding as little as may be.

    Packets are counted by demuxing (headers lie; frames an edit list hides are left out); only
    codecs whose packets are not frames, and streams that start between key frames, are decoded.
    Raises BadMedia for files without frames and for MP4 and Matroska files cut short.
    """
    with opened(path) as (container, stream):
        first = next(_pictures(path, container, stream), None)
        if first is None:
            raise BadMedia(f"{path}: a video without a single frame; re-encode it or remove it")
        turned = _turns(first) % 2
        height, width = (first.width, first.height) if turned else (first.height, first.width)
        rate = stream.average_rate or stream.guessed_rate
        fps = float(rate) if rate else None
        alpha = any(part.is_alpha for part in first.format.components)
    return Footage(_count(path), height, width, fps, alpha)


def _count(path: Path) -> int:
    shown, exact = _packets(path)
    if exact:
        return shown
    with opened(path) as (container, stream):
        return sum(1 for _ in _pictures(path, container, stream))


def _packets(path: Path) -> tuple[int, bool]:
    """Packets that are shown, and whether each of them is one frame; BadMedia where cut short."""
    with opened(path) as (container, stream):
        packets = shown = 0
        end, exact = Fraction(0), stream.codec_context.name in _COUNTABLE
        for packet in container.demux(stream):
            if not packet.size:
                continue
            exact = exact and (packets > 0 or packet.is_keyframe)
            packets, shown = packets + 1, shown + (not packet.is_discard)
            if packet.pts is not None and packet.time_base is not None:
                end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        _refuse_cut(path, container, stream, packets, end)
    return shown, exact


def _refuse_cut(
    path: Path, container: InputContainer, stream: VideoStream, packets: int, end: Fraction
) -> None:
    """BadMedia where the index of an MP4, or the duration of a Matroska file, tells of more."""
    if "mov" in container.format.name and stream.frames > packets:
        announced = f"{packets} of {stream.frames} frames"
    elif "matroska" in container.format.name and (
        told := _DURATION.match(stream.metadata.get("DURATION", ""))
    ):
        length = int(told[1]) * 3600 + int(told[2]) * 60 + float(told[3])
        if length <= float(end) + 0.75 / float(stream.average_rate or 10):
            return
        announced = f"{float(end):.2f} of {length:.2f} seconds"
    else:
        return
    raise BadMedia(
        f"{path}: the video is cut short, {announced} are there; copy it again from its source, or"
        " re-encode it to keep what is left"
    )


def read(path: Path, wanted: Sequence[int], reading: Reading) -> Iterator[tuple[int, Array]]:
    """(index, array) of the wanted frames (sorted, distinct), decoding no further than the last."""
    with opened(path) as (container, stream):
        left, count = set(wanted), 0
        lossless = stream.codec_context.name in _LOSSLESS
        for index, frame in enumerate(_pictures(path, container, stream)):
            count = index + 1
            if index in left:
                left.discard(index)
                yield index, np.rot90(_read(path, frame, reading, lossless), _turns(frame))
            if not left:
                return
    raise BadMedia(
        f"{path}: frame {max(left)} (counted from 0) was asked for, but only {count} frames can be"
        " decoded; the file is cut short or damaged, re-encode it"
    )


def stream(path: Path, reading: Reading) -> Iterator[Array]:
    """Every frame in order, one at a time; BadMedia tells how many decoded before a broken tail."""
    count = 0
    try:
        with opened(path) as (container, track):
            lossless = track.codec_context.name in _LOSSLESS
            for frame in _pictures(path, container, track):
                yield np.rot90(_read(path, frame, reading, lossless), _turns(frame))
                count += 1
        shown, exact = _packets(path)  # what is missing at the end leaves no error in the decoder
    except BadMedia as error:
        if not count:
            raise
        raise BadMedia(f"{error} ({count} frames were decoded before)") from error
    if exact and shown != count:
        raise BadMedia(
            f"{path}: only {count} of its {shown} frames can be decoded; the file is cut short or"
            " damaged, re-encode it"
        )


def _read(path: Path, frame: VideoFrame, reading: Reading, lossless: bool) -> Array:
    match reading:
        case "rgb":
            return frame.to_ndarray(format="rgb24")
        case "grey":
            return _grey(path, frame, lossless)
        case "alpha":
            if not any(part.is_alpha for part in frame.format.components):
                raise BadMedia(
                    f"{path}: has no alpha channel ({frame.format.name}); use ProRes 4444, VP9 WebM"
                    " or FFV1 with alpha, or take the mask from a folder"
                )
            return frame.to_ndarray(format="rgba")[..., 3].astype(np.float32) / np.float32(255)
        case "index":
            return _index(path, frame, lossless)


def _grey(path: Path, frame: VideoFrame, lossless: bool) -> NDArray[np.float32]:
    kind = frame.format.name
    if kind.startswith("gray") and frame.format.components[0].bits > 8:
        deep: Array = frame.to_ndarray(format="gray16le")
        return (deep.astype(np.float64) / 65535).astype(np.float32)
    rgb: Array = frame.to_ndarray(format="rgb24")
    apart = spread(rgb)
    if apart > (0 if lossless and frame.format.is_rgb else TINT):
        raise refuse_colour(path, apart)
    if lossless and (apart == 0):
        return rgb[..., 0].astype(np.float32) / np.float32(255)
    levels: Array = frame.to_ndarray(format="gray")
    return levels.astype(np.float32) / np.float32(255) if lossless else snapped(levels)


def _index(path: Path, frame: VideoFrame, lossless: bool) -> NDArray[np.int32]:
    kind = frame.format.name
    if not lossless or not (frame.format.is_rgb or kind.startswith("gray")):
        raise BadMedia(
            f"{path}: a label video in {kind} whose compression changes label values; write it as"
            " FFV1 (bgr0 or gray) in .mkv, or as a folder of PNG frames"
        )
    if kind.startswith("gray"):
        return frame.to_ndarray().astype(np.int32)
    rgb: Array = frame.to_ndarray(format="rgb24")
    if apart := spread(rgb):
        raise BadMedia(
            f"{path}: holds colours (channels differ by up to {apart}), not label numbers; give the"
            " `legend` RGB colours, or write the labels as grey"
        )
    return rgb[..., 0].astype(np.int32)


def write(path: Path, frames: NDArray[np.uint8], fps: float | int, lossless: bool) -> None:
    """Save F H W 3 atomically as H.264 .mp4, or bit for bit as FFV1 .mkv (`lossless`).

    ValueError on another suffix, on no frames, and on odd sides (H.264 with 4:2:0 has none).
    """
    count, height, width, _ = frames.shape
    suffix = ".mkv" if lossless else ".mp4"
    if path.suffix.lower() != suffix:
        kind = "lossless (FFV1)" if lossless else "H.264"
        raise ValueError(f"{path}: {kind} video is written as {suffix}, not {path.suffix!r}")
    if not count or fps <= 0:
        raise ValueError(f"{path}: {count} frames at {fps} fps make no video")
    if not lossless and (height % 2 or width % 2):
        raise ValueError(
            f"{path}: H.264 needs even sides, these are {width} x {height} (width x height); crop"
            " by a pixel, or write it lossless"
        )
    form = "matroska" if lossless else "mp4"
    with (
        replacing(path) as draft,
        # bitexact leaves out random ids and dates: the same frames make the same file.
        av.open(
            str(draft), "w", format=form, container_options={"fflags": "+bitexact"}
        ) as container,
    ):
        stream = _stream(container, _rate(path, fps), lossless)
        stream.width, stream.height = width, height
        for array in frames:
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            if not lossless:
                frame = frame.reformat(
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                )
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@contextmanager
def writing_labels(
    path: Path, fps: float | int, comment: str = ""
) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """A call that appends one H W frame to an FFV1 grey .mkv; the file appears when all is written.

    `comment` is kept in the file's metadata. ValueError on another suffix, on no frames, and where
    the size changes.
    """
    if path.suffix.lower() != ".mkv":
        raise ValueError(f"{path}: lossless (FFV1) video is written as .mkv, not {path.suffix!r}")
    options = {"fflags": "+bitexact"}
    with (
        replacing(path) as draft,
        av.open(str(draft), "w", format="matroska", container_options=options) as container,
    ):
        if comment:
            container.metadata["comment"] = comment
        # Golomb-Rice coding with small contexts: flat labels decode 8 times faster than with the
        # range coder, and the file is half as big. Key frames only: a damaged one spoils no other.
        how = {"level": "3", "coder": "0", "context": "0", "slicecrc": "1", "slices": "4", "g": "1"}
        track: VideoStream = container.add_stream("ffv1", rate=_rate(path, fps), options=how)
        track.pix_fmt = "gray"
        size: tuple[int, ...] = ()

        def add(frame: NDArray[np.uint8]) -> None:
            nonlocal size
            if not size:
                size = track.height, track.width = frame.shape
            if frame.shape != size:
                raise ValueError(
                    f"{path}: a frame of {frame.shape[1]} x {frame.shape[0]} after frames of"
                    f" {size[1]} x {size[0]} (width x height); bring all to one size"
                )
            array = np.ascontiguousarray(frame)
            container.mux(track.encode(VideoFrame.from_ndarray(array, format="gray")))

        yield add
        if not size:
            raise ValueError(f"{path}: 0 frames at {fps} fps make no video")
        container.mux(track.encode())


def _rate(path: Path, fps: float | int) -> Fraction:
    if not fps > 0:
        raise ValueError(f"{path}: {fps} fps make no video; give a rate above 0")
    return Fraction(fps).limit_denominator(100_000)


def _stream(container: Any, rate: Fraction, lossless: bool) -> VideoStream:
    if lossless:
        options = {"level": "3", "coder": "1", "context": "1", "slicecrc": "1"}
        stream: VideoStream = container.add_stream("ffv1", rate=rate, options=options)
        stream.pix_fmt = "bgr0"
        return stream
    stream = container.add_stream("libx264", rate=rate, options={"crf": "17", "preset": "medium"})
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    # Tagged, since players guess the matrix of untagged video by its size, and guess differently.
    context.colorspace = context.color_primaries = context.color_trc = Colorspace.ITU709
    context.color_range = ColorRange.MPEG
    return stream
