"""One door to every kind of clip: still, animation, video, folder of frames."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.grid import LatentGrid
from frisket.media.frames import (
    BadMedia,
    decode,
    decode_alpha,
    decode_grey,
    decode_index,
    extract,
    probe,
    resample,
    write_video,
)
from frisket.media.geometry import Geometry

GRID = LatentGrid(channels=16, spatial=8, temporal=4)


@pytest.fixture
def folder(tmp_path, picture):
    """Twelve frames numbered without leading zeros, written in another order."""
    for index in (10, 2, 11, 0, 1, *range(3, 10)):
        picture(tmp_path / "walk" / f"{index}.png", np.full((8, 12), index * 20, np.uint8))
    (tmp_path / "walk" / ".DS_Store").touch()
    (tmp_path / "walk" / "notes.txt").touch()
    return tmp_path / "walk"


def test_a_folder_of_frames_is_a_video_in_natural_order(folder):
    media = probe(folder)
    assert (media.frames, media.height, media.width) == (12, 8, 12)
    assert (media.fps, media.alpha, media.video) == (None, False, True)
    assert decode(folder)[:, 0, 0, 0].tolist() == [20 * i for i in range(12)]
    assert (decode_grey(folder, [11, 2])[:, 0, 0] * 255).round().tolist() == [220, 40]
    assert decode_index(folder, [3])[0, 0, 0] == 60


def test_a_folder_of_frames_that_is_broken(tmp_path, folder, picture):
    with pytest.raises(BadMedia, match=r"frame 12 \(counted from 0\) .* has only 12"):
        decode(folder, [12])
    picture(folder / "5.jpg")
    with pytest.raises(BadMedia, match=r"5\.jpg and 5\.png are both frame '5'; keep one"):
        probe(folder)
    (folder / "5.jpg").unlink()
    picture(folder / "12.png")
    with pytest.raises(BadMedia, match=r"frame 12 is 48 x 32, the frames before it are 12 x 8"):
        decode(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        BadMedia, match=r"empty: a folder of frames without any image; put 000\.png"
    ):
        probe(tmp_path / "empty")


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_an_animation_is_a_video_and_a_still_of_that_format_is_not(tmp_path, picture, suffix):
    pages = [Image.new("RGB", (10, 8), (0, 0, 40 * i)) for i in range(5)]
    path = tmp_path / f"a{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {}
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=100, **options)
    media = probe(path)
    assert (media.frames, media.height, media.width, media.video) == (5, 8, 10, True)
    assert media.fps == pytest.approx(10)
    assert decode(path, [4, 0, 2])[:, 0, 0, 2].tolist() == [160, 0, 80]
    with pytest.raises(BadMedia, match="frame 5"):
        decode(path, [5])
    still = probe(picture(tmp_path / f"b{suffix}"))
    assert (still.frames, still.video, still.fps) == (1, False, None)


def test_an_animation_keeps_its_alpha(tmp_path):
    pages = [Image.new("RGBA", (4, 4), (9, 9, 9, 255 * (i % 2))) for i in range(3)]
    pages[0].save(tmp_path / "a.webp", save_all=True, append_images=pages[1:], lossless=True)
    assert decode_alpha(tmp_path / "a.webp")[:, 0, 0].tolist() == [0, 1, 0]


def test_a_still_has_one_frame_that_may_be_asked_for_often(tmp_path, picture):
    path = picture(tmp_path / "a.png")
    assert decode(path, [0, 0, 0]).shape == (3, 32, 48, 3)
    with pytest.raises(
        BadMedia, match=r"frame 1 \(counted from 0\) was asked for, but it has only"
    ):
        decode(path, [1])


MODES = [("head", {}), ("chunk", {}), ("full", {"max_frames": 13})]
MODES += [("slide", {"stride": 2}), ("uniform", {"samples": 3})]


@pytest.mark.parametrize(("mode", "options"), MODES)
@pytest.mark.parametrize("fps", [24.0, 16.0, 10.0])
@pytest.mark.parametrize("flip", [False, True])
def test_pixels_and_mask_show_the_same_frames_under_every_extraction(
    tmp_path, mode, options, fps, flip
):
    frames = torch.zeros(31, 16, 24, 3, dtype=torch.uint8)
    for index in range(31):  # each frame tells its index, and its left half is brighter by one
        frames[index] = index * 8
        frames[index, :, :12] += 4
    write_video(tmp_path / "clip.mkv", frames, 24, lossless=True)
    write_video(tmp_path / "mask.mkv", frames, 24, lossless=True)
    media = probe(tmp_path / "clip.mkv")
    kept = resample(media.frames, media.fps, fps)
    for picks in extract(kept, 9, mode, **options, grid=GRID):
        assert len(picks) % 4 == 1
        geometry = Geometry((16, 24), (8, 8), picks, flip)
        pixels = geometry.pixels(decode(tmp_path / "clip.mkv", picks))
        plane = geometry.plane(decode_grey(tmp_path / "mask.mkv", picks))
        torch.testing.assert_close(pixels, (plane * 2 - 1).expand_as(pixels), atol=1e-5, rtol=0)
        side = plane[:, 4, -1 if flip else 0] * 255
        assert ((side - 4) / 8).round().tolist() == list(picks)
        assert json.loads(json.dumps(geometry.record()))["picks"] == list(picks)
