"""Colours of videos as players show them: the matrix, wide gamuts, HDR."""

import numpy as np
import pytest
import torch

from frisket.media.frames import decode, decode_grey, probe

RED = (200, 40, 40)


def patches(levels):
    row = np.repeat(np.array(levels, np.float64) / 255 * 65535, 16, 0)
    return np.repeat(np.rint(row).astype(np.uint16)[None], 16, 0)


@pytest.mark.parametrize("name", ["p3", "bt2020", "pq", "hlg"])
@pytest.mark.parametrize(
    ("file", "codec", "pixels"),
    [("a.mkv", "ffv1", "yuv444p10le"), ("a.mov", "prores_ks", "yuv444p10le")],
)
def test_wide_colours_and_hdr_are_as_ffmpeg_converts_them(
    tmp_path, shoot, recorded, name, file, codec, pixels
):
    told = recorded["colours"][name]
    path = shoot(
        tmp_path / file,
        [patches(told["levels"])],
        codec=codec,
        pixels=pixels,
        source="rgb48le",
        tags=(9, *told["tags"]),
    )
    media = probe(path)
    seen = decode(path)[0, 8, 8::16].int()
    # ProRes loses a little, and tells its colours in the container alone.
    assert (seen - torch.tensor(told["shown"])).abs().max() <= (1 if codec == "ffv1" else 3)
    assert media.remarks == ("hdr" if name in ("pq", "hlg") else "wide gamut",)
    assert media.reading


def test_highlights_are_rolled_off_and_keep_their_order_and_hue(tmp_path, shoot):
    codes = [(level,) * 3 for level in range(0, 256, 5)] + [(180, 150, 140), (200, 150, 140)]
    path = shoot(
        tmp_path / "a.mkv",
        [patches(codes)],
        codec="ffv1",
        pixels="yuv444p10le",
        source="rgb48le",
        tags=(9, 9, 16),
    )
    seen = decode(path)[0, 8, 8::16].int()
    grey = seen[:-2]
    assert (grey.amax(-1) - grey.amin(-1)).max() <= 1
    assert (grey[1:, 0] - grey[:-1, 0]).min() >= 0
    assert grey[0].max() == 0
    assert grey[-1].min() == 255
    white = round(0.58 * 51)  # 203 cd/m2: below the top, for what is brighter
    assert 220 <= int(grey[white, 0]) <= 240
    assert seen[-2].argmax() == seen[-1].argmax() == 0


@pytest.mark.parametrize(
    ("height", "width", "tagged", "told"),
    [
        (720, 1280, None, ("untagged",)),
        (540, 1280, None, ("untagged",)),
        (576, 720, None, ()),
        (720, 1280, 1, ()),
        (720, 1280, 5, ()),
        (64, 96, 1, ()),
    ],
)
def test_the_matrix_is_the_one_players_take(tmp_path, shoot, height, width, tagged, told):
    # What an encoder that does not tag its HD video meant, and what tags say.
    meant = tagged or (1 if told else 5)
    frame = np.broadcast_to(np.array(RED, np.uint8), (height, width, 3))
    path = tmp_path / "a.mp4"
    import av

    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=16, options={"qp": "4", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if tagged:
            stream.codec_context.colorspace = tagged
            stream.codec_context.color_range = 1
        shown = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        out.mux(stream.encode(shown.reformat(format="yuv420p", dst_colorspace=meant)))
        out.mux(stream.encode())
    media = probe(path)
    assert media.remarks == told
    assert bool(media.reading) == bool(told)
    assert (decode(path)[0, ::90, ::90].int() - torch.tensor(RED)).abs().max() <= 3


def test_masks_are_numbers_whatever_their_tags_say(tmp_path, shoot):
    levels = np.repeat(np.linspace(0, 255, 48).astype(np.uint8)[None], 32, 0)
    frame = np.repeat(levels[..., None], 3, -1)
    path = shoot(tmp_path / "m.mkv", [frame], codec="ffv1", pixels="bgr0", tags=(0, 9, 16))
    assert torch.equal(decode_grey(path)[0], torch.from_numpy(levels) / 255)
