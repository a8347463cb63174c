"""Videos as a player shows them: turned, mirrored, with square pixels; their masks alike."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from frisket.media.frames import decode, decode_alpha, decode_grey, decode_stored, probe, stream
from frisket.media.geometry import Geometry, MaskMismatch

LEVELS = np.array((0, 85, 170, 255), np.uint8).reshape(2, 2)
CORNERS = np.repeat(np.kron(LEVELS, np.ones((32, 48), np.uint8))[..., None], 3, -1)


def corners(frame):
    height, width = frame.shape[:2]
    seen = frame[:: height - 1, :: width - 1].float().reshape(4, -1)[:, 0]
    return (seen / 85).round().mul(85).int().tolist()


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mp4", "libx264", "yuv420p"),
        ("a.mov", "prores_ks", "yuv422p10le"),
        ("a.mp4", "mpeg4", "yuv420p"),
        ("a.mkv", "ffv1", "bgr0"),
        ("a.mkv", "libvpx-vp9", "yuva420p"),
    ],
)
def test_the_eight_display_matrices_are_those_of_ffmpeg(
    tmp_path, shoot, recorded, name, codec, pixels
):
    assert len(recorded["turns"]) == 8
    for turn in recorded["turns"]:
        path = shoot(tmp_path / name, [CORNERS], codec=codec, pixels=pixels, matrix=turn["matrix"])
        media, shown = probe(path), turn["corners"]
        crossed = bool(turn["matrix"][1])
        assert (media.height, media.width) == ((96, 64) if crossed else (64, 96))
        assert corners(decode(path)[0]) == shown
        assert corners(next(stream(path, "grey"))[..., None] * 255) == shown
        # Told in the cache key, for what was read as a turn before.
        mirrored = np.linalg.det(np.array(turn["matrix"], float).reshape(3, 3)) < 0
        assert media.reading == (("mirrored",) if mirrored else ())


def test_a_matrix_that_is_no_quarter_turn_is_told(tmp_path, shoot):
    tilted = [56756, 32768, 0, -32768, 56756, 0, 0, 0, 1 << 30]  # 30 degrees
    media = probe(
        shoot(tmp_path / "a.mov", [CORNERS], codec="qtrle", pixels="rgb24", matrix=tilted)
    )
    assert (media.height, media.width, media.remarks) == (64, 96, ("odd turn",))
    scaled = [2 << 16, 0, 0, 0, 2 << 16, 0, 0, 0, 1 << 30]
    media = probe(
        shoot(tmp_path / "b.mov", [CORNERS], codec="qtrle", pixels="rgb24", matrix=scaled)
    )
    assert (media.height, media.width, media.remarks) == (64, 96, ())


@pytest.mark.parametrize(
    ("aspect", "width"), [("2", 192), ("4/3", 128), ("8/9", 85), ("1/2", 48), ("1001/1000", 96)]
)
@pytest.mark.parametrize("turned", [False, True])
def test_pixels_are_made_square(tmp_path, shoot, gradient, aspect, width, turned):
    matrix = [0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30] if turned else None
    frames = gradient(2, 64, 96)
    path = shoot(
        tmp_path / "a.mov",
        frames,
        codec="qtrle",
        pixels="rgb24",
        aspect=Fraction(aspect),
        matrix=matrix,
    )
    media = probe(path)
    size = (width, 64) if turned else (64, width)
    stored = (96, 64) if turned else (64, 96)
    assert (media.height, media.width) == size
    assert media.stored == (None if width == 96 else stored)
    assert ("pixel aspect" in media.remarks) == (width != 96)
    assert tuple(decode(path).shape[1:3]) == tuple(next(stream(path)).shape[:2]) == size
    assert tuple(decode_stored(path).shape[1:3]) == stored


def test_pixels_that_are_not_square_are_resampled_once(tmp_path, shoot):
    y, x = np.mgrid[:64, :96]
    wave = np.stack([127 + 90 * np.sin(x / 4), 127 + 90 * np.cos(y / 9), x + y], -1)
    frames = [wave.astype(np.uint8)]
    path = shoot(tmp_path / "a.mov", frames, codec="qtrle", pixels="rgb24", aspect=Fraction(2))
    media = probe(path)
    geometry = Geometry((media.height, media.width), (32, 64), (0,), stored=media.stored)
    cut = geometry.pixels(decode_stored(path))
    # From the display size as well, but twice resampled: near, and not nearer to the source.
    twice = geometry.pixels(decode(path))
    assert (cut - twice).abs().mean() < 0.03
    # The middle 64 x 64 of the stored pixels, by exact area means along the rows alone.
    middle = torch.from_numpy(frames[0][:, 16:80]).float().reshape(32, 2, 64, 3).mean(1)
    near = Geometry((64, 192), (32, 64), (0,), stored=(64, 96)).pixels(decode_stored(path))
    torch.testing.assert_close(
        near, (middle.permute(2, 0, 1) / 127.5 - 1)[:, None], atol=0.02, rtol=0
    )


def test_a_mask_fits_at_the_displayed_and_at_the_stored_size():
    geometry = Geometry((64, 192), (64, 192), (0,), stored=(64, 96))
    for size in ((64, 192), (64, 96), (32, 48), (128, 384)):
        mask = torch.zeros(1, *size)
        mask[:, :, : size[1] // 4] = 1
        laid = geometry.plane(mask)[0]
        assert laid[:, :46].min() == 1
        assert laid[:, 50:].max() == 0
        assert geometry.labels(mask.int())[0, :, :46].min() == 1
    with pytest.raises(MaskMismatch, match="the mask is 64 x 64"):
        geometry.plane(torch.zeros(1, 64, 64))
    with pytest.raises(MaskMismatch):
        Geometry((64, 192), (64, 192), (0,)).plane(torch.zeros(1, 64, 96))
    assert "stored" not in Geometry((64, 96), (64, 96), (0,)).record()


def test_grey_and_alpha_of_pixels_that_are_not_square(tmp_path, shoot):
    frame = np.zeros((64, 96, 4), np.uint8)
    frame[:, :48] = 255
    path = shoot(
        tmp_path / "a.mov", [frame], codec="qtrle", pixels="argb", source="rgba", aspect=Fraction(2)
    )
    alpha = decode_alpha(path)[0]
    assert alpha.shape == (64, 192)
    assert (alpha[:, :95].min(), alpha[:, 97:].max()) == (1, 0)
    grey = shoot(
        tmp_path / "b.mov",
        [np.repeat(frame[..., :1], 3, -1)],
        codec="qtrle",
        pixels="rgb24",
        aspect=Fraction(2),
    )
    assert torch.equal(decode_grey(grey)[0], alpha)
