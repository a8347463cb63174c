"""Frames of one clip in any order, by the numbers `media.frames.decode` has, for looking at it."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, runtime_checkable

from av.video.frame import VideoFrame

from frisket.media import images
from frisket.media.foreign import decoding
from frisket.media.images import PixelArray, PixelReading
from frisket.media.moving import animated
from frisket.media.paths import VIDEOS, BadMedia, frames_in
from frisket.media.videos import SeekPoints, VideoDecoder, find_seek_points, open_video

HELD_BYTES = 128 * 2**20  # bytes of decoded frames kept behind the last one asked for
SEEK_WORTH = 3  # frames that are decoded sooner than a decoder is set back and filled again


@runtime_checkable
class FrameReader(Protocol):
    """Reads frames of one open file, one after the other or at random; one thread at a time."""

    def read(self, index: int) -> PixelArray:
        """Frame `index`, counted from 0: H W 3 uint8 of "rgb", H W of the other readings.

        BadMedia (see `media.frames.probe`), also where it lies beyond the frames that decode.
        """
        ...

    def close(self) -> None:
        """Let go of the file; a reader that was closed opens it again when it is asked."""
        ...


def open_reader(path: Path, reading: PixelReading = "rgb", budget: int = HELD_BYTES) -> FrameReader:
    """A reader of a video, an animation, an image or a folder of frames; opens nothing yet.

    `budget` bytes of frames decoded on the way are kept for going back, whatever the clip's length.
    """
    if path.is_dir():
        return _FolderReader(path, reading)
    if path.suffix.lower() in VIDEOS:
        return VideoReader(path, reading, budget)
    return _ImageReader(path, reading)


class _FolderReader:
    def __init__(self, path: Path, reading: PixelReading) -> None:
        self.path, self.reading = path, reading

    def read(self, index: int) -> PixelArray:
        paths = frames_in(self.path)
        _check_index(self.path, index, len(paths))
        with decoding(paths[index]), images.open_image(paths[index]) as image:
            return images.read(image, paths[index], self.reading)

    def close(self) -> None:
        return


class _ImageReader:
    def __init__(self, path: Path, reading: PixelReading) -> None:
        self.path, self.reading = path, reading

    def read(self, index: int) -> PixelArray:
        with decoding(self.path), images.open_image(self.path) as image:
            _check_index(self.path, index, animated.frames_of(image, self.path))
            palette = animated.palette_of(image) if self.reading == "index" else None
            animated.seek(image, index)
            frame = palette.label(image) if palette else image
            return images.read(frame, self.path, self.reading)

    def close(self) -> None:
        return


class VideoReader:
    """Frames of a video, decoded from the nearest frame before that needs no other.

    Frames are told apart by their time stamps, as `videos.survey` counts them. Where stamps do not
    tell (see `find_seek_points`), or a decoder that was set back answers otherwise than one that
    began at the start, frames are counted from the start, which is slower and never wrong.
    """

    def __init__(self, path: Path, reading: PixelReading = "rgb", budget: int = HELD_BYTES) -> None:
        """Name the file; it is opened at the first `read`."""
        self.path, self.reading, self.budget = path, reading, budget
        self.decoded = 0  # frames so far, for tests and measurements
        self._points: SeekPoints | None = None
        self._numbers: dict[int, int] = {}  # time stamp to frame
        self._frames: OrderedDict[int, VideoFrame] = OrderedDict()  # by number, the latest last
        self._bytes = 0
        self._stack: ExitStack | None = None
        self._decoder: VideoDecoder | None = None
        self._coming: Iterator[VideoFrame] = iter(())
        self._next = 0  # the number of the frame that comes

    def read(self, index: int) -> PixelArray:
        """As `FrameReader` promises; the first call opens the file."""
        if index < 0:
            raise BadMedia(f"{self.path}: frame {index}; frames are counted from 0")
        with decoding(self.path):
            if self._stack is None:
                self._open(survey=True)
            frame = self._frames.get(index) or self._decode(index)
            assert self._decoder is not None
            return self._decoder.array(frame, self.reading, square=True)

    def close(self) -> None:
        """As `FrameReader` promises; frames that are held go too."""
        self._frames.clear()
        self._bytes, self._coming, self._decoder, self._next = 0, iter(()), None, 0
        if self._stack is not None:
            self._stack.close()
            self._stack = None

    @property
    def seeks(self) -> bool:
        """Whether the file that is open can be decoded from its middle."""
        return self._points is not None

    def find_whole(self, index: int) -> int | None:
        """The nearest frame at or before `index` that needs no other; None where that is unknown.

        Opens the file where it is closed.
        """
        with decoding(self.path):
            if self._stack is None:
                self._open(survey=True)
        points = self._points
        return None if points is None else points.whole[bisect_right(points.whole, index) - 1]

    def _open(self, *, survey: bool) -> None:
        if survey:
            points = find_seek_points(self.path)
            self._points = points
            stamps = points.stamps if points else ()
            self._numbers = {stamp: number for number, stamp in enumerate(stamps)}
        self._stack = ExitStack()
        container, stream = self._stack.enter_context(open_video(self.path))
        self._decoder = VideoDecoder(self.path, container, stream)
        self._coming, self._next = self._decoder.frames(), 0
        # What the first frame tells of colours and turning holds for all, as in `decode`.
        self._take()

    def _decode(self, index: int) -> VideoFrame:
        points = self._points
        if points is None:
            return self._count_to(index)
        _check_index(self.path, index, len(points.stamps))
        start = points.whole[bisect_right(points.whole, index) - 1]
        if index < self._next or start > self._next + SEEK_WORTH:
            self._seek(points.stamps[start], start)
        while self._next <= index:
            if not self._take():
                break
        frame = self._frames.get(index)
        if frame is not None:
            return frame
        self._points = None  # its stamps promised what its decoder does not keep
        self.close()
        self._open(survey=False)
        return self._frames.get(index) or self._count_to(index)

    def _count_to(self, index: int) -> VideoFrame:
        if index < self._next:
            self.close()
            self._open(survey=False)
        while self._next <= index:
            if not self._take():
                raise BadMedia(
                    f"{self.path}: frame {index} (counted from 0) was asked for, but only"
                    f" {self._next} frames can be decoded"
                )
        return self._frames[index]

    def _seek(self, stamp: int, number: int) -> None:
        assert self._decoder is not None
        container, stream = self._decoder.container, self._decoder.stream
        container.seek(stamp, stream=stream, backward=True)
        self._coming, self._next = self._decoder.frames(), number
        # Pictures of an open group come before its first whole one and refer to what was not read.
        for frame in self._coming:
            self.decoded += 1
            place = None if frame.pts is None else self._numbers.get(frame.pts)
            if place is not None and place >= number:
                self._keep(place, frame)
                self._next = place + 1
                return
        self._next = number

    def _take(self) -> bool:
        """Decode one more frame; False at the end, or where it is not the one that should come."""
        frame = next(self._coming, None)
        if frame is None:
            return False
        self.decoded += 1
        if self._points is not None and (
            frame.is_corrupt or self._numbers.get(frame.pts or 0) != self._next
        ):
            return False
        self._keep(self._next, frame)
        self._next += 1
        return True

    def _keep(self, number: int, frame: VideoFrame) -> None:
        size = sum(plane.buffer_size for plane in frame.planes)
        before = self._frames.pop(number, None)
        if before is None:
            self._bytes += size
        self._frames[number] = frame
        while self._bytes > self.budget and len(self._frames) > 1:
            _, oldest = self._frames.popitem(last=False)
            self._bytes -= sum(plane.buffer_size for plane in oldest.planes)


def _check_index(path: Path, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise BadMedia(
            f"{path}: frame {index} (counted from 0) was asked for, but it has only {count}"
        )
