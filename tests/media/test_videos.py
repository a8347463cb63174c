"""Video files: counted, frame-exact, rotated as seen, and refused when broken."""

import numpy as np
import pytest
import torch

from frisket.media.frames import (
    BadMedia,
    decode,
    decode_alpha,
    decode_grey,
    decode_index,
    probe,
    write_video,
)

CODECS = [
    ("a.mp4", "libx264", "yuv420p", {"bf": "3", "g": "8"}),
    ("a.mov", "mjpeg", "yuvj420p", {}),
    ("a.avi", "mpeg4", "yuv420p", {"bf": "2", "qmin": "1", "qmax": "2"}),
    ("vp9.webm", "libvpx-vp9", "yuv420p", {"lag-in-frames": "8"}),
    ("vp8.webm", "libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "8"}),
    ("a.mkv", "ffv1", "bgr0", {}),
]


@pytest.mark.parametrize(("name", "codec", "pixels", "options"), CODECS)
def test_every_pick_is_that_very_frame(tmp_path, encode, numbered, name, codec, pixels, options):
    path = encode(tmp_path / name, numbered(21), codec, pixels, **options)
    assert probe(path).frames == 21
    picks = (20, 3, 3, 0, 11)
    levels = decode(path, picks).float().mean((1, 2, 3))
    assert (levels / 8).round().tolist() == list(picks)


def test_probe_tells_size_rate_and_kind(tmp_path, encode, numbered):
    media = probe(encode(tmp_path / "a.mp4", numbered(5), fps=23.976))
    assert (media.frames, media.height, media.width, media.video) == (5, 32, 48, True)
    assert media.fps == pytest.approx(23.976, abs=1e-3)
    assert not media.alpha


def test_frames_hidden_by_an_edit_list_are_not_counted(tmp_path, encode, numbered):
    import av

    whole = encode(tmp_path / "whole.mp4", numbered(20), g="20")
    cut = tmp_path / "cut.mp4"
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(whole)) as source, av.open(str(cut), "w", container_options=options) as out:
        old = source.streams.video[0]
        new = out.add_stream_from_template(old)
        for packet in source.demux(old):
            if packet.size:
                packet.pts -= round(6 / (16 * old.time_base))
                packet.dts -= round(6 / (16 * old.time_base))
                packet.stream = new
                out.mux(packet)
    with av.open(str(cut)) as container:
        assert container.streams.video[0].frames == 20  # what the header says
    assert probe(cut).frames == len(decode(cut)) == 14
    assert decode(cut, [0])[0].float().mean() / 8 == pytest.approx(6, abs=0.3)


def test_decoding_stops_after_the_last_pick(tmp_path, encode, numbered):
    path = encode(tmp_path / "a.mp4", numbered(30), "libx264", g="1", bf="0")
    path.write_bytes(path.read_bytes()[:-200])
    assert decode(path, range(4)).shape[0] == 4
    with pytest.raises(BadMedia, match=r"a\.mp4: "):
        decode(path)


@pytest.mark.parametrize("degrees", [90, -90, 180])
def test_display_rotation_is_honoured(tmp_path, encode, degrees):
    frames = np.zeros((2, 32, 64, 3), np.uint8)
    frames[:, :16, :16] = 255
    path = encode(tmp_path / "phone.mp4", frames, rotation=degrees)
    seen = np.rot90(frames[0, :, :, 0], degrees // 90) > 128
    media = probe(path)
    assert (media.height, media.width) == seen.shape
    assert np.array_equal(decode(path, [1])[0, :, :, 0].numpy() > 128, seen)
    assert np.array_equal(decode_grey(path, [1])[0].numpy() > 0.5, seen)


def test_lossless_round_trip_of_300_mask_frames_is_bit_exact(tmp_path):
    y, x = np.mgrid[:40, :56]
    inside = [np.hypot(y - 20, x - i % 56) * 9 for i in range(300)]
    grey = np.clip(255 - np.stack(inside), 0, 255).astype(np.uint8)
    frames = torch.from_numpy(np.repeat(grey[..., None], 3, -1))
    path = tmp_path / "mask.mkv"
    write_video(path, frames, 16, lossless=True)
    assert probe(path).frames == 300
    assert torch.equal(decode(path), frames)
    assert torch.equal(decode_grey(path), torch.from_numpy(grey) / 255)
    assert torch.equal(decode_index(path), torch.from_numpy(grey).int())


def test_lossless_colour_and_odd_sides_are_bit_exact_and_reproducible(tmp_path):
    frames = torch.randint(0, 256, (5, 31, 17, 3), dtype=torch.uint8)
    for name in ("a.mkv", "b.mkv"):
        write_video(tmp_path / name, frames, 23.976, lossless=True)
    assert torch.equal(decode(tmp_path / "a.mkv"), frames)
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_h264_keeps_colours_and_refuses_odd_sides(tmp_path):
    frames = torch.zeros(4, 32, 32, 3, dtype=torch.uint8)
    frames[:, :, :16], frames[:, :, 16:] = (
        torch.tensor([220, 40, 40], dtype=torch.uint8),
        torch.tensor([40, 170, 60], dtype=torch.uint8),
    )
    write_video(tmp_path / "a.mp4", frames, 16)
    read = decode(tmp_path / "a.mp4")
    assert (read[:, :, :8].int() - frames[:, :, :8].int()).abs().max() <= 4
    assert (read[:, :, 24:].int() - frames[:, :, 24:].int()).abs().max() <= 4
    with pytest.raises(ValueError, match=r"even sides, these are 31 x 32 \(width x height\); crop"):
        write_video(tmp_path / "b.mp4", frames[:, :, :31], 16)
    with pytest.raises(ValueError, match=r"lossless \(FFV1\) video is written as \.mkv"):
        write_video(tmp_path / "b.mp4", frames, 16, lossless=True)
    with pytest.raises(ValueError, match="0 frames at 16 fps make no video"):
        write_video(tmp_path / "b.mp4", frames[:0], 16)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_lossy_mask_video_has_exact_black_and_white(tmp_path, encode):
    y, x = np.mgrid[:64, :96]
    disc = (((y - 32) ** 2 + (x - 48) ** 2 < 400) * 255).astype(np.uint8)
    path = encode(tmp_path / "m.mp4", [np.repeat(disc[..., None], 3, -1)] * 6, crf="23")
    read = decode_grey(path, [3])[0]
    assert (read[:4] == 0).all()
    assert read[32, 48] == 1
    assert ((read > 0.5).numpy() == (disc > 0)).mean() > 0.99


def test_coloured_mask_video_and_lossy_label_video_are_refused(tmp_path, encode, gradient):
    path = encode(tmp_path / "m.mp4", gradient(2))
    with pytest.raises(BadMedia, match=r"m\.mp4: its colour channels differ .* `legend`"):
        decode_grey(path)
    with pytest.raises(BadMedia, match=r"m\.mp4: a label video in yuv420p .* FFV1"):
        decode_index(path)


@pytest.mark.parametrize(("pixels", "dtype"), [("gray", np.uint8), ("gray16le", np.uint16)])
def test_grey_lossless_video_keeps_its_depth(tmp_path, encode, pixels, dtype):
    top = np.iinfo(dtype).max
    levels = np.linspace(0, top, 64 * 4).astype(dtype).reshape(1, 16, 16)
    path = encode(tmp_path / "m.mkv", levels, "ffv1", pixels, source=pixels, level="3")
    torch.testing.assert_close(decode_grey(path), torch.from_numpy(levels.astype(np.float32) / top))
    assert np.array_equal(decode_index(path).numpy(), levels)


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "source"),
    [("a.webm", "libvpx-vp9", "yuva420p", "rgba"), ("a.mov", "prores_ks", "yuva444p10le", "rgba")],
)
def test_alpha_video(tmp_path, encode, gradient, name, codec, pixels, source):
    alpha = np.zeros((4, 32, 48, 1), np.uint8)
    alpha[:, :16] = 255
    frames = np.concatenate([gradient(4), alpha], -1)
    path = encode(tmp_path / name, frames, codec, pixels, source=source)
    media = probe(path)
    assert media.alpha
    assert media.frames == 4
    assert np.array_equal(decode_alpha(path)[2].numpy() > 0.5, alpha[2, :, :, 0] > 0)
    assert decode(path).shape == (4, 32, 48, 3)
    with pytest.raises(BadMedia, match=r"b\.mp4: has no alpha channel \(yuv420p\)"):
        decode_alpha(encode(tmp_path / "b.mp4", gradient(2)))


@pytest.mark.parametrize("share", [0.4, 0.8, 0.97])
@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv"])
def test_videos_cut_short_are_refused(tmp_path, encode, gradient, name, share):
    codec = ("libx264", "yuv420p") if name.endswith("mp4") else ("ffv1", "bgr0")
    path = encode(tmp_path / name, gradient(40), *codec)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    # Whether anything of a first frame that is cut itself is decoded is up to FFmpeg's threads.
    with pytest.raises(BadMedia, match=rf"{name}: .*(cut short|can be decoded|a single frame)"):
        decode(path)
    with pytest.raises(BadMedia, match=rf"{name}: "):
        probe(path)


def test_frame_size_that_changes_midway_is_refused(tmp_path, encode, numbered):
    parts = [
        encode(tmp_path / f"{i}.ts", numbered(6, *size), container="mpegts")
        for i, size in enumerate([(64, 96), (32, 48)])
    ]
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(BadMedia, match=r"changes from 96 x 64 to 48 x 32 midway.*re-encode it"):
        decode(path)


def test_files_that_are_no_videos(tmp_path, encode, numbered):
    (empty := tmp_path / "empty.mp4").touch()
    with pytest.raises(BadMedia, match=r"empty\.mp4: the file is empty \(0 bytes\)"):
        probe(empty)
    (text := tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(BadMedia, match=r"text\.mp4: not a video that can be decoded.*re-encode"):
        probe(text)
    import wave

    with wave.open(str(tmp_path / "sound.mkv"), "wb") as sound:
        sound.setparams((1, 2, 8000, 800, "NONE", ""))
        sound.writeframes(bytes(1600))
    with pytest.raises(BadMedia, match=r"sound\.mkv: holds no video stream"):
        probe(tmp_path / "sound.mkv")


def test_a_video_without_frames_is_refused(tmp_path, encode, numbered):
    import av

    path = tmp_path / "none.avi"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mjpeg", rate=16)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
        out.start_encoding()
    with pytest.raises(BadMedia, match=r"none\.avi: "):
        probe(path)


def test_picks_beyond_the_end_name_both_counts(tmp_path, encode, numbered):
    path = encode(tmp_path / "a.mp4", numbered(9))
    with pytest.raises(BadMedia, match=r"frame 12 \(counted from 0\) .* only 9 frames"):
        decode(path, [2, 12])
    with pytest.raises(ValueError, match=r"picks \[-1\] name no frames"):
        decode(path, [-1])


def test_file_names_with_spaces_colons_and_dots(tmp_path, encode, numbered):
    path = encode(tmp_path / "a.mp4", numbered(3)).rename(tmp_path / "take 1: a.b %03d é.mp4")
    assert probe(path).frames == 3
