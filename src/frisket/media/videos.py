"""One video file to arrays, counted and read frame by frame through PyAV."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.codec.context import CodecContext
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from frisket.media.foreign import PIXELS, check_pixels, decoding
from frisket.media.images import PixelArray, PixelReading
from frisket.media.moving.clock import Clock, read_clock
from frisket.media.moving.colour import PLAIN, Colour, Tags, colour_of
from frisket.media.moving.display import FrameSize, Rotation, aspect_of, fit, make_square, turn_of
from frisket.media.moving.levels import has_alpha, read_frame
from frisket.media.paths import BadMedia

# One packet is one frame in these; others (MPEG-4 packed B-frames, VP8 hidden frames) are decoded
# to be counted.
_COUNTABLE = {"h264", "hevc", "av1", "vp9", "ffv1", "mjpeg", "png", "prores", "rawvideo", "dnxhd"}
_DURATION = re.compile(r"(\d{1,4}):(\d\d?):(\d\d?(?:\.\d{1,9})?)")  # as FFmpeg writes it to .mkv
_LIMITS = {"max_pixels": str(PIXELS)}  # a stream may tell a larger size than its header
# libavcodec's own VP8 and VP9 decoders drop the alpha channel that WebM keeps beside the picture.
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
_FASTEST = 1000  # frames a second; a stream without a rate is told to have its clock's


@dataclass(frozen=True, slots=True)
class Footage:
    """What a video is: of the frames that decode, as they are displayed."""

    clock: Clock
    size: FrameSize  # height and width displayed: turned, pixels square
    stored: FrameSize  # the same before pixels are made square
    alpha: bool
    colour: Colour
    turn: Rotation
    interlaced: bool
    streams: int  # of moving pictures; the best is read

    def reading(self) -> tuple[str, ...]:
        """What is done to the frames that their size and number do not tell, for cache keys."""
        return (*(("mirrored",) if self.turn.mirrored else ()), *self.colour.reading())

    def remarks(self) -> tuple[str, ...]:
        """What the file holds that a user may want to know of, by short names."""
        colour = self.colour
        flags = {
            "variable frame rate": self.clock.variable,
            "hdr": colour.light != "sdr",
            "wide gamut": colour.light == "sdr" and colour.gamut is not None,
            "untagged": colour.untagged and colour.matrix is not None,
            "interlaced": self.interlaced,
            "pixel aspect": self.size != self.stored,
            "odd turn": self.turn.odd,
            "several streams": self.streams > 1,
        }
        return tuple(name for name, true in flags.items() if true)


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream; whatever is raised while it is open becomes BadMedia.

    Frames of more than `foreign.PIXELS` pixels are refused by the header. The cover picture of a
    piece of music is no video.
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
            moving = _list_moving(container)
            if container.streams.video and not moving:
                raise BadMedia(
                    f"{path}: holds a cover picture and no video; remove it from the clips"
                )
            if not isinstance(stream, VideoStream):
                raise BadMedia(f"{path}: holds no video stream; re-encode it as MP4 or remove it")
            stream = stream if stream in moving else moving[0]
            check_pixels(path, stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.options = _LIMITS
            yield container, stream


def _list_moving(container: InputContainer) -> list[VideoStream]:
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    return [track for track in container.streams.video if not track.disposition & still]


@dataclass(slots=True)
class VideoDecoder:
    """A stream's frames in display order, its packets as they are fed; the first frame's facts."""

    path: Path
    container: InputContainer
    stream: VideoStream
    codec: str = ""
    colour: Colour = PLAIN
    first: VideoFrame | None = None
    turn: Rotation | None = None  # of all frames, where the decoder that reads alpha tells none

    def frames(self) -> Iterator[VideoFrame]:
        """Every frame; BadMedia where the frame size changes."""
        stream = self.stream
        tags = Tags.of(stream)
        self.codec = stream.codec_context.name
        decoder: Any = stream
        if stream.metadata.get("alpha_mode") == "1" and self.codec in _WITH_ALPHA:
            decoder = CodecContext.create(_WITH_ALPHA[self.codec], "r")
            decoder.extradata, decoder.options = stream.codec_context.extradata, _LIMITS
        elif not stream.codec_context.is_open:  # else set back, and going on from elsewhere
            stream.thread_type = "AUTO"
        for packet in self.container.demux(stream):
            if decoder is not stream and self.turn is None:
                self.turn = next((turn_of(picture) for picture in stream.decode(packet)), None)
            for index, frame in enumerate(decoder.decode(packet)):
                if self.first is None:
                    self.first, self.colour = frame, colour_of(frame, tags)
                self._check_size(frame, index)
                yield frame

    def _check_size(self, frame: VideoFrame, index: int) -> None:
        assert self.first is not None
        size = (self.first.width, self.first.height)
        if size != (frame.width, frame.height):
            raise BadMedia(
                f"{self.path}: the frame size changes from {size[0]} x {size[1]} to {frame.width} x"
                f" {frame.height} midway (at {frame.time or index} s); re-encode it at one size"
            )

    def array(self, frame: VideoFrame, reading: PixelReading, *, square: bool) -> PixelArray:
        """One frame as it is displayed; with its pixels as stored unless `square`."""
        stored = read_frame(self.path, frame, reading, self.codec, self.colour)
        array = (self.turn or turn_of(frame)).lay(stored)
        return fit(array, self.size(frame)[0]) if square else array

    def size(self, frame: VideoFrame) -> tuple[FrameSize, FrameSize]:
        """Height and width as displayed, and before pixels are made square."""
        stored, turn = (frame.height, frame.width), self.turn or turn_of(frame)
        square = make_square(stored, aspect_of(self.stream))
        return turn.size(square), turn.size(stored)


def survey(path: Path) -> Footage:
    """Count the frames that decode and read size, time stamps, colour and alpha.

    Packets are read without decoding them (headers lie). What they do not tell for certain is
    decoded: codecs whose packets are not frames, streams that do not start at a key frame or start
    with pictures that refer to what was cut away (open GOP), frames hidden by an edit list, fields,
    missing or repeated time stamps. Raises BadMedia for files without frames, and for MP4 and
    Matroska files cut short.
    """
    with open_video(path) as (container, stream):
        decoder = VideoDecoder(path, container, stream)
        first = next(decoder.frames(), None)
        if first is None:
            raise BadMedia(f"{path}: a video without a single frame; re-encode it or remove it")
        size, stored = decoder.size(first)
        check_pixels(path, size[1], size[0])
        facts = (has_alpha(first), decoder.colour, decoder.turn or turn_of(first))
        interlaced, streams = bool(first.interlaced_frame), len(_list_moving(container))
    clock = _read_clock(path, fields=interlaced and decoder.codec == "h264")
    return Footage(clock, size, stored, *facts, interlaced, streams)


@dataclass(frozen=True, slots=True)
class SeekPoints:
    """Where decoding may begin: `stamps` of all frames in the order shown, `whole` by number."""

    stamps: tuple[int, ...]
    whole: tuple[int, ...]  # ascending; the first is 0


def find_seek_points(path: Path) -> SeekPoints | None:
    """The points of a video, None where only decoding from its start tells frame numbers.

    That is so wherever `survey` has to decode a file to count it. Raises as `survey`.
    """
    packets = _read_packets(path)
    with open_video(path) as (container, stream):
        first = next(VideoDecoder(path, container, stream).frames(), None)
        fields = first is not None and first.interlaced_frame
    if not packets.certain or fields or not packets.whole:
        return None
    stamps = sorted(stamp for stamp in packets.stamps if stamp is not None)
    places = {stamp: index for index, stamp in enumerate(stamps)}
    return SeekPoints(tuple(stamps), tuple(sorted(places[stamp] for stamp in packets.whole)))


def _read_clock(path: Path, *, fields: bool) -> Clock:
    packets = _read_packets(path)
    if packets.certain and not fields:
        return packets.clock()
    stamps = _Stamps()
    with open_video(path) as (container, stream):
        stamps.start(stream)
        stamps.certain = False
        for frame in VideoDecoder(path, container, stream).frames():
            stamps.add(frame.pts, frame.duration)
    return stamps.clock()


@dataclass(slots=True)
class _Stamps:
    """Time stamps of frames, as they come."""

    stamps: list[int | None] = field(default_factory=list)
    lasting: list[int] = field(default_factory=list)
    base: Fraction = Fraction(1)
    nominal: tuple[Fraction, ...] = ()
    certain: bool = True  # one packet is one frame, each decodes, each has its own time stamp
    whole: list[int] = field(default_factory=list)  # stamps of frames that need no other
    _decoded: float = -math.inf  # when the last packet was

    def start(self, stream: VideoStream) -> None:
        """What the stream says of its time."""
        rates = (stream.average_rate, stream.guessed_rate)
        self.nominal = tuple(rate for rate in rates if rate and rate < _FASTEST)
        self.base = stream.time_base or Fraction(1)
        self.certain = stream.codec_context.name in _COUNTABLE

    def add(self, stamp: int | None, lasts: int | None) -> None:
        """Note one more frame, by time stamp and duration in ticks of `base`."""
        self.stamps.append(stamp)
        self.lasting.append(lasts or 0)

    def add_packet(self, packet: Any) -> None:
        """One more, as it is stored: in the order of decoding."""
        stamp = packet.pts
        back = packet.dts is not None and packet.dts < self._decoded  # joined recordings
        if packet.is_keyframe and stamp is not None:
            self.whole.append(stamp)
        doubtful = packet.is_discard or packet.is_corrupt or stamp is None or back
        self._decoded = self._decoded if packet.dts is None else packet.dts
        self.certain = self.certain and self._is_whole(packet) and not doubtful
        self.add(stamp, packet.duration)

    def _is_whole(self, packet: Any) -> bool:
        """Whether a packet is the first, a key frame, or is shown after the first."""
        if not self.stamps:
            return bool(packet.is_keyframe)
        # Before the first key frame is shown what refers to frames that are not there.
        stamp, first = packet.pts, self.stamps[0]
        return stamp is not None and first is not None and stamp > first

    def end(self) -> Fraction:
        """Seconds at which the last of all ends, by the file's own clock."""
        ends = [
            stamp + lasts
            for stamp, lasts in zip(self.stamps, self.lasting, strict=True)
            if stamp is not None
        ]
        return max(ends, default=0) * self.base

    def clock(self) -> Clock:
        """The clock of the frames; of packets, brought to the order they are shown in."""
        order = list(range(len(self.stamps)))
        if self.certain:
            order.sort(key=lambda index: self.stamps[index] or 0)
        stamps = [self.stamps[index] for index in order]
        last = self.lasting[order[-1]] if order else 0
        return read_clock(stamps, self.base, last, self.nominal)


def _read_packets(path: Path) -> _Stamps:
    """Every packet of the stream; BadMedia where it is cut short."""
    stamps = _Stamps()
    with open_video(path) as (container, stream):
        stamps.start(stream)
        for packet in container.demux(stream):
            if packet.size:
                stamps.add_packet(packet)
        _refuse_cut(path, container, stream, len(stamps.stamps), stamps.end())
    stamps.certain = stamps.certain and len(set(stamps.stamps)) == len(stamps.stamps)
    return stamps


def _refuse_cut(
    path: Path, container: InputContainer, stream: VideoStream, packets: int, end: Fraction
) -> None:
    """BadMedia where the index of an MP4, or the duration of a Matroska file, tells of more."""
    # Not the header's count: what an edit list hides is in no index, and need not be there.
    if "mov" in container.format.name and len(stream.index_entries) > packets:
        announced = f"{packets} of {len(stream.index_entries)} frames"
    elif "matroska" in container.format.name and (
        match := _DURATION.match(stream.metadata.get("DURATION", ""))
    ):
        length = int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
        if length <= float(end) + 0.75 / float(stream.average_rate or 10):
            return
        announced = f"{float(end):.2f} of {length:.2f} seconds"
    else:
        return
    raise BadMedia(
        f"{path}: the video is cut short, {announced} are there; copy it again from its source, or"
        " re-encode it to keep what is left"
    )


def read(
    path: Path, wanted_frames: Sequence[int], reading: PixelReading, *, square: bool = True
) -> Iterator[tuple[int, PixelArray]]:
    """(index, array) of the wanted frames (sorted, distinct), decoding no further than the last.

    Frames are upright; their pixels are made `square`, or left as they are stored.
    """
    with open_video(path) as (container, stream):
        left, count = set(wanted_frames), 0
        decoder = VideoDecoder(path, container, stream)
        for index, frame in enumerate(decoder.frames()):
            count = index + 1
            if index in left:
                left.discard(index)
                yield index, decoder.array(frame, reading, square=square)
            if not left:
                return
    raise BadMedia(
        f"{path}: frame {max(left)} (counted from 0) was asked for, but only {count} frames can be"
        " decoded; the file is cut short or damaged, re-encode it"
    )


def stream(path: Path, reading: PixelReading) -> Iterator[PixelArray]:
    """Every frame in order, one at a time; BadMedia tells how many decoded before a broken tail."""
    count = 0
    try:
        with open_video(path) as (container, track):
            decoder = VideoDecoder(path, container, track)
            for frame in decoder.frames():
                yield decoder.array(frame, reading, square=True)
                count += 1
        packets = _read_packets(path)  # what is missing at the end leaves no error in the decoder
    except BadMedia as error:
        if not count:
            raise
        raise BadMedia(f"{error} ({count} frames were decoded before)") from error
    fields = decoder.first is not None and decoder.first.interlaced_frame
    if packets.certain and not fields and len(packets.stamps) != count:
        raise BadMedia(
            f"{path}: only {count} of its {len(packets.stamps)} frames can be decoded; the file is"
            " cut short or damaged, re-encode it"
        )
