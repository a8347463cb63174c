"""One count of frames: what decodes is what is probed, streamed, picked and asked of a mask."""

import av
import numpy as np
import pytest

from frisket.media.frames import BadMedia, decode, decode_grey, probe, stream


def cut(source, target, *, first, shift=0, keep_discarded=True, drop=()):
    """Copy packets without decoding them, from the key frame `first` (in packets) on."""
    options = {} if keep_discarded else {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as old, av.open(str(target), "w", container_options=options) as out:
        stream = old.streams.video[0]
        new = out.add_stream_from_template(stream)
        packets = [packet for packet in old.demux(stream) if packet.size]
        ticks = round(shift / (16 * stream.time_base))
        for index, packet in enumerate(packets):
            if index < first or index in drop:
                continue
            packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
            packet.stream = new
            out.mux(packet)
    return target


def keys(path):
    """Places of key frames among the packets, and how many packets follow that are shown before."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    found = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    leading = {i: sum(p.pts < packets[i].pts for p in packets[i + 1 :]) for i in found}
    return leading, len(packets)


def counts(path):
    return {probe(path).frames, len(decode(path)), len(list(stream(path)))}


OPEN = {"x264-params": "open-gop=1:keyint=8:bframes=3:b-adapt=0:scenecut=0"}


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
def test_a_cut_open_gop_counts_what_decodes(tmp_path, encode, numbered, suffix):
    container = ".ts" if suffix == ".ts" else ".mkv"  # H.264 is written otherwise there
    whole = encode(tmp_path / f"whole{container}", numbered(30), **OPEN)
    assert counts(whole) == {30}
    leading, packets = keys(whole)
    start = next(index for index, count in leading.items() if count)
    path = cut(whole, tmp_path / f"cut{suffix}", first=start)
    (count,) = counts(path)
    assert count == packets - start - leading[start]
    levels = decode(path).float().mean((1, 2, 3)) / 8
    first = round(float(levels[0]))
    assert levels.round().tolist() == list(range(first, 30))
    media = probe(path)
    assert media.fps == pytest.approx(16, abs=0.01)
    assert not media.clock.variable


def test_a_cut_hevc_counts_what_decodes(tmp_path, encode, numbered):
    options = {"x265-params": "log-level=none:pools=1:open-gop=1:keyint=8:bframes=3:scenecut=0"}
    whole = encode(tmp_path / "whole.mkv", numbered(30, 64, 64), "libx265", **options)
    leading, packets = keys(whole)
    start = next(index for index, count in leading.items() if count)
    path = cut(whole, tmp_path / "cut.mkv", first=start)
    assert counts(path) == {packets - start - leading[start]}


@pytest.mark.parametrize("shift", [3, 11, 19])
@pytest.mark.parametrize("gop", [{"g": "8", "bf": "2"}, OPEN])
def test_an_edit_list_hides_frames_and_is_no_damage(tmp_path, encode, numbered, shift, gop):
    whole = encode(tmp_path / "whole.mp4", numbered(30), **gop)
    path = cut(whole, tmp_path / "cut.mp4", first=0, shift=shift, keep_discarded=False)
    assert counts(path) == {30 - shift}
    assert round(float(decode(path, [0]).float().mean()) / 8) == shift
    assert probe(path).clock.sample(8)[:3] == (0, 2, 4)


def test_a_cut_short_mp4_is_still_refused(tmp_path, encode, gradient):
    whole = encode(tmp_path / "whole.mp4", gradient(40), g="8", bf="2")
    path = cut(whole, tmp_path / "cut.mp4", first=0, shift=11, keep_discarded=False)
    with av.open(str(path)) as source:
        options = {"movflags": "+faststart"}
        with av.open(str(tmp_path / "fast.mp4"), "w", container_options=options) as out:
            new = out.add_stream_from_template(source.streams.video[0])
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = new
                    out.mux(packet)
    fast = tmp_path / "fast.mp4"
    fast.write_bytes(fast.read_bytes()[: int(fast.stat().st_size * 0.8)])
    with pytest.raises(BadMedia, match=r"fast\.mp4: the video is cut short, \d+ of \d+ frames"):
        probe(fast)


def test_joined_recordings_are_one(tmp_path, encode, numbered):
    part = encode(tmp_path / "a.ts", numbered(12), g="6", bf="2")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(part.read_bytes() * 2)
    assert counts(joined) == {24}
    media = probe(joined)
    assert media.times[-1] == pytest.approx(23 / 16, abs=0.1)
    levels = decode(joined).float().mean((1, 2, 3)) / 8
    assert levels.round().tolist() == [*range(12), *range(12)]


def test_a_video_that_starts_between_key_frames(tmp_path, encode, numbered):
    whole = encode(tmp_path / "whole.mkv", numbered(30), g="10", bf="0")
    path = cut(whole, tmp_path / "cut.mkv", first=5)
    assert len(counts(path)) == 1


def test_interlaced_video_is_counted_and_told(tmp_path, shoot, numbered):
    path = shoot(tmp_path / "a.ts", numbered(12), flags="+ilme+ildct", g="6")
    assert counts(path) == {12}
    assert probe(path).remarks == ("interlaced",)


def test_a_cover_picture_is_no_clip(tmp_path, gradient):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=8000)
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 48, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(gradient(1)[0], format="rgb24")
        out.mux([*cover.encode(frame), *cover.encode()])
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), "fltp", "mono")
        tone.sample_rate = 8000
        out.mux([*sound.encode(tone), *sound.encode()])
    for look in (probe, decode, lambda path: list(stream(path))):
        with pytest.raises(BadMedia, match=r"song\.mp4: holds a cover picture and no video"):
            look(path)


def test_several_videos_in_one_file_are_told(tmp_path, gradient):
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("ffv1", rate=16) for _ in range(2)]
        for each in streams:
            each.width, each.height, each.pix_fmt = 48, 32, "bgr0"
        for array in gradient(3):
            for each in streams:
                out.mux(each.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        for each in streams:
            out.mux(each.encode())
    assert (probe(path).frames, probe(path).remarks) == (3, ("several streams",))


ALPHA = [
    ("a.mov", "prores_ks", "yuva444p10le"),
    ("a.mov", "qtrle", "argb"),
    ("a.mov", "png", "rgba"),
    ("a.mkv", "ffv1", "bgra"),
    ("a.webm", "libvpx-vp9", "yuva420p"),
]


@pytest.mark.parametrize(("name", "codec", "pixels"), ALPHA)
def test_a_mask_in_the_alpha_of_a_mask_video_is_refused(tmp_path, shoot, name, codec, pixels):
    frame = np.full((32, 48, 4), 255, np.uint8)
    opaque = shoot(
        tmp_path / f"opaque-{name}", [frame] * 2, codec=codec, pixels=pixels, source="rgba"
    )
    assert decode_grey(opaque).min() == 1
    frame = frame.copy()
    frame[:, 24:, 3] = 0
    path = shoot(tmp_path / name, [frame] * 2, codec=codec, pixels=pixels, source="rgba")
    for look in (decode_grey, lambda path: list(stream(path, "grey"))):
        with pytest.raises(BadMedia, match=rf"{name}: a mask video with transparency \(alpha down"):
            look(path)


@pytest.mark.parametrize("pixels", ["gray10le", "gray12le"])
def test_deep_grey_of_a_lossy_mask_video_is_exactly_black_and_white(tmp_path, shoot, pixels):
    disc = np.zeros((64, 96), np.uint16)
    disc[16:48, 24:72] = 65535
    options = {"x265-params": "log-level=none:pools=1:bframes=0", "crf": "30"}
    path = shoot(
        tmp_path / "m.mkv", [disc] * 2, codec="libx265", pixels=pixels, source="gray16le", **options
    )
    read = decode_grey(path, [1])[0]
    assert (read[:12].max(), read[-12:].max()) == (0, 0)
    assert read[24:40, 36:60].min() == 1
