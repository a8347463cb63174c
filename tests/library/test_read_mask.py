"""Mask files to the planes that the trainer reads of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import frisket
from frisket.media.frames import BadMedia, write_video

GREY = np.array([[0, 64, 128, 255]] * 2, np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("kind", [str, Path])
def test_a_picture_is_one_frame_of_one_plane(tmp_path, kind):
    path = save(tmp_path / "mask.png", GREY)
    mask = frisket.read_mask(kind(path))
    assert torch.equal(mask, torch.from_numpy(GREY.astype(np.float32) / 255)[None, None])
    assert torch.equal(frisket.read_mask(path, invert=True), 1 - mask)


def test_sixteen_bits_are_a_fraction_too(tmp_path):
    path = save(tmp_path / "mask.png", GREY.astype(np.uint16) * 257)
    assert torch.allclose(frisket.read_mask(path)[0, 0], torch.from_numpy(GREY / 255).float())


def test_transparency_is_asked_for(tmp_path):
    path = save(tmp_path / "clip.png", np.dstack([GREY] * 2 + [GREY * 0, GREY]))
    mask = frisket.read_mask(path, alpha=True)
    assert torch.equal(mask[0, 0], torch.from_numpy(GREY.astype(np.float32) / 255))
    with pytest.raises(BadMedia, match=r"mask\.png has no transparency"):
        frisket.read_mask(save(tmp_path / "mask.png", GREY), alpha=True)


def test_levels_and_legend_give_a_plane_a_region(tmp_path):
    path = save(tmp_path / "mask.png", GREY)
    mask = frisket.read_mask(path, levels={"face": 255, "background": 0, "hair": 64, "body": 128})
    planes = torch.from_numpy(np.stack([GREY == 255, GREY == 64, GREY == 128])).float()
    assert torch.equal(mask, planes[:, None])
    picture = Image.fromarray(np.array([[0, 1, 2]] * 2, np.uint8), "L").convert("P")
    picture.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    picture.putdata([0, 1, 2] * 2)
    picture.save(tmp_path / "labels.png")
    mask = frisket.read_mask(tmp_path / "labels.png", legend={"face": 2, "hair": 1})
    assert mask.shape == (2, 1, 2, 3)
    assert mask[:, 0, 0].tolist() == [[0, 0, 1], [0, 1, 0]]


def test_a_video_has_all_its_frames_and_a_stack_is_a_batch(tmp_path):
    frames = torch.zeros(5, 16, 16, 3, dtype=torch.uint8)
    frames[2] = 255
    write_video(tmp_path / "mask.mkv", frames, 8.0, lossless=True)
    mask = frisket.read_mask(tmp_path / "mask.mkv")
    assert mask.shape == (1, 5, 16, 16)
    assert mask.mean((0, 2, 3)).tolist() == [0, 0, 1, 0, 0]
    batch = torch.stack([mask, mask])
    cells = frisket.coverage(batch, spatial=8, temporal=4)
    assert cells.shape == (2, 1, 2, 2, 2)
    assert cells[0, 0, :, 0, 0].tolist() == [0, 0.25]
    latents = torch.randn(2, 4, 2, 2, 2)
    loss = frisket.masked_loss(latents, torch.zeros_like(latents), batch)
    assert torch.equal(loss, frisket.masked_loss(latents, torch.zeros_like(latents), cells))


def test_what_is_no_mask_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"colour\.png"):
        frisket.read_mask(save(tmp_path / "colour.png", np.dstack([GREY, GREY * 0, GREY])))
    with pytest.raises(ValueError, match=r"nowhere\.png"):
        frisket.read_mask(tmp_path / "nowhere.png")
