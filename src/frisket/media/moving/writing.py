"""Video files written: H.264, and FFV1 that reads back bit for bit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from frisket.media.paths import replacing


def write(path: Path, frames: NDArray[np.uint8], fps: float | int, lossless: bool) -> None:
    """Save F H W 3 atomically as H.264 .mp4, or bit for bit as FFV1 .mkv (`lossless`).

    ValueError on another suffix, on no frames, and on odd sides (H.264 with 4:2:0 has none).
    """
    _check_video(path, frames.shape, fps, lossless)
    height, width = frames.shape[1:3]
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


def _check_video(path: Path, shape: tuple[int, ...], fps: float | int, lossless: bool) -> None:
    count, height, width, _ = shape
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


@contextmanager
def open_video_writer(
    path: Path, fps: float | int
) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """A call that appends one H W 3 frame to an FFV1 .mkv; the file appears when all is written.

    Bit for bit, as `write` with `lossless`, but for one frame in memory at a time. ValueError on
    another suffix, on no frames, and where the size changes.
    """
    if path.suffix.lower() != ".mkv":
        raise ValueError(f"{path}: lossless (FFV1) video is written as .mkv, not {path.suffix!r}")
    with (
        replacing(path) as draft,
        av.open(
            str(draft), "w", format="matroska", container_options={"fflags": "+bitexact"}
        ) as container,
    ):
        track = _stream(container, _rate(path, fps), lossless=True)
        size: tuple[int, ...] = ()

        def add(frame: NDArray[np.uint8]) -> None:
            nonlocal size
            if not size:
                size = track.height, track.width = frame.shape[:2]
            if frame.shape[:2] != size:
                raise ValueError(
                    f"{path}: a frame of {frame.shape[1]} x {frame.shape[0]} after frames of"
                    f" {size[1]} x {size[0]} (width x height); bring all to one size"
                )
            array = np.ascontiguousarray(frame)
            container.mux(track.encode(VideoFrame.from_ndarray(array, format="rgb24")))

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
