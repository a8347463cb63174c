"""Animated pictures: which of them are frames, and labels of later ones."""

import numpy as np
import pytest
import torch
from PIL import Image

from frisket.media.frames import BadMedia, decode, decode_index, probe, stream


def pages(count, side=16):
    return [Image.new("RGB", (side, side), (20 * index,) * 3) for index in range(count)]


def test_the_hidden_picture_of_a_png_is_no_frame(tmp_path):
    hidden, *shown = pages(6)
    path = tmp_path / "a.png"
    hidden.save(path, save_all=True, append_images=shown, duration=100, default_image=True)
    media = probe(path)
    assert (media.frames, media.video, media.fps) == (5, True, 10)
    assert decode(path)[:, 0, 0, 0].tolist() == [20, 40, 60, 80, 100]
    assert decode(path, [3, 1])[:, 0, 0, 0].tolist() == [80, 40]
    assert [int(frame[0, 0, 0]) for frame in stream(path)] == [20, 40, 60, 80, 100]
    assert media.reading == ("hidden picture skipped",)
    with pytest.raises(BadMedia, match="frame 5"):
        decode(path, [5])
    shown[0].save(path, save_all=True, append_images=shown[1:], duration=100)
    assert (probe(path).frames, probe(path).reading) == (5, ())


@pytest.mark.parametrize("options", [{}, {"disposal": 2}, {"transparency": 0, "disposal": 2}])
@pytest.mark.parametrize("suffix", [".gif", ".png"])
def test_labels_of_an_animation_are_those_of_its_first_palette(tmp_path, suffix, options):
    labels = np.zeros((4, 16, 16), np.uint8)
    for index in range(4):
        labels[index, 2:6, index : index + 5] = 1
        labels[index, 8:12, index : index + 3] = 2
    drawn = [Image.fromarray(each, "P") for each in labels]
    for each in drawn:
        each.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [0] * 759)
    path = tmp_path / f"a{suffix}"
    options = options if suffix == ".gif" else {}
    drawn[0].save(path, save_all=True, append_images=drawn[1:], duration=100, **options)
    assert torch.equal(decode_index(path), torch.from_numpy(labels).int())
    assert torch.equal(decode_index(path, [2]), torch.from_numpy(labels[2:3]).int())


def test_a_gif_frame_with_colours_of_its_own_has_no_labels(tmp_path):
    first, second = Image.new("P", (16, 16)), Image.new("P", (16, 16))
    first.putpalette([0, 0, 0, 255, 0, 0])
    second.putpalette([1, 2, 3, 255, 0, 0])
    path = tmp_path / "a.gif"
    first.save(path, save_all=True, append_images=[second], duration=100)
    with pytest.raises(BadMedia, match=r"a\.gif: holds colours"):
        decode_index(path)
