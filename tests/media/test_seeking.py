"""Frames read at random are those that `decode` gives, by the same numbers."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frisket.media import frames
from frisket.media.seeking import VideoReader, open_reader

# A variable rate, and a stream cut in an open group of pictures.
CASES = sorted((Path(__file__).parent / "odd_clips").iterdir())


def check_against_decode(path, reader, order):
    every = frames.decode(path).numpy()
    for index in order(len(every)):
        assert np.array_equal(reader.read(index), every[index]), (path, index)
    return len(every)


def shuffle(count):
    order = [*range(0, count, 7), *range(count)]
    random.Random(1).shuffle(order)
    return [*order[:40], *range(min(count, 6) - 1, -1, -1)]


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_frames_of_odd_files_are_the_trainers(path):
    check_against_decode(path, open_reader(path), shuffle)


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "options"),
    [
        ("closed.mp4", "libx264", "yuv420p", {"g": "12", "bf": "3"}),
        ("open.mkv", "libx264", "yuv420p", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
        ("one-group.mp4", "libx264", "yuv420p", {"g": "999", "bf": "3"}),
        ("refresh.mkv", "libx264", "yuv420p", {"g": "12", "x264-params": "intra-refresh=1"}),
        ("vp9.webm", "libvpx-vp9", "yuv420p", {"g": "10"}),
        ("packed.avi", "mpeg4", "yuv420p", {"g": "10", "bf": "2"}),
        ("each.mkv", "ffv1", "bgr0", {"g": "1"}),
        ("stream.ts", "libx264", "yuv420p", {"g": "12", "bf": "2"}),
    ],
)
def test_random_order_gives_the_frames_of_decode(
    tmp_path, encode, gradient, name, codec, pixels, options
):
    clip = gradient(50)
    clip[:, 8:16, 8:16] = (np.arange(50) * 5)[:, None, None, None]
    path = encode(tmp_path / name, clip, codec, pixels, **options)
    check_against_decode(path, VideoReader(path, budget=20_000), shuffle)


def test_going_back_in_a_long_group_decodes_little(tmp_path, encode, numbered):
    path = encode(tmp_path / "long.mp4", numbered(120), "libx264", g="999", sc_threshold="0")
    reader = VideoReader(path)
    for index in range(119, -1, -1):
        reader.read(index)
    assert reader.seeks
    assert reader.decoded == 120  # all fit into what is held: each was decoded once


def test_memory_held_does_not_grow_with_the_clip(tmp_path, encode, numbered):
    path = encode(tmp_path / "long.mp4", numbered(200, 64, 64), "libx264", g="20")
    reader = VideoReader(path, budget=100_000)
    for index in range(200):
        reader.read(index)
        assert reader._bytes <= 100_000 + 64 * 64 * 4
    assert len(reader._frames) < 20


def test_folders_animations_and_stills(tmp_path, gradient):
    clip = gradient(5)
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(clip):
        Image.fromarray(frame).save(folder / f"{number}.png")
    assert check_against_decode(folder, open_reader(folder), shuffle) == 5
    gif = tmp_path / "a.gif"
    pictures = [Image.fromarray(frame) for frame in clip]
    pictures[0].save(gif, save_all=True, append_images=pictures[1:], duration=50)
    assert check_against_decode(gif, open_reader(gif), shuffle) == 5
    still = tmp_path / "a.png"
    pictures[0].save(still)
    assert check_against_decode(still, open_reader(still), shuffle) == 1


@pytest.mark.parametrize("suffix", [".mp4", ".png"])
def test_frames_that_are_not_there_are_named(tmp_path, encode, numbered, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".mp4":
        encode(path, numbered(4))
    else:
        Image.fromarray(numbered(1)[0]).save(path)
    for index in (-1, 4):
        with pytest.raises(frames.BadMedia, match=rf"a{suffix}.*frame {index}"):
            open_reader(path).read(index)


def test_labels_of_a_mask_video(tmp_path):
    labels = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((1, 16, 24), np.uint8)
    path = tmp_path / "m.mkv"
    with frames.writing_labels(path, 8) as video:
        for frame in labels:
            video.append(frame)
    reader = open_reader(path, "index")
    for index in (9, 0, 5, 4):
        assert np.array_equal(reader.read(index), labels[index])
    shutil.copy(path, tmp_path / "n.mkv")
    reader.close()
    assert np.array_equal(reader.read(3), labels[3])
