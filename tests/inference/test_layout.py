"""Grids of samples and the files they are written to."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from frisket.inference.generate import Picture
from frisket.inference.grids import grid, save
from frisket.inference.sample_specs import SampleSpec


def flat(colour: tuple[int, int, int], frames: int = 1, size: int = 32, **text: object) -> Picture:
    painted = torch.tensor(colour, dtype=torch.uint8).expand(frames, size, size, 3).contiguous()
    shot = SampleSpec(str(text.get("prompt", "a prompt")), 5, size, size, frames, 1, 1.0)
    return Picture(shot, painted)


def test_a_grid_keeps_rows_and_columns_and_enlarges_small_pictures() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    sheet = grid([flat(colour) for colour in colours], columns=2)
    assert sheet.shape[0] == 1
    assert sheet.shape[1] % 2 == sheet.shape[2] % 2 == 0
    assert sheet.shape[2] >= 2 * 160
    middle, right = 80, sheet.shape[2] // 2 + 80
    below = sheet.shape[1] // 2 + 80
    assert sheet[0, middle, middle].tolist() == [255, 0, 0]
    assert sheet[0, middle, right].tolist() == [0, 255, 0]
    assert sheet[0, below, middle].tolist() == [0, 0, 255]
    assert sheet[0, below, right].tolist() == [255, 255, 255]


def test_a_grid_writes_labels_of_any_length_and_script() -> None:
    plain = grid([flat((9, 9, 9), prompt="")], columns=1)
    long = grid([flat((9, 9, 9), prompt="ein großer Hund 犬 " * 30)], columns=1)
    named = grid([flat((9, 9, 9))], columns=1, labels=["base"])
    assert (plain < 128).any(dim=3)[0, -20:].any()
    assert plain.shape[1] < long.shape[1] <= plain.shape[1] + 3 * 15
    assert named.shape[1] < plain.shape[1]


def test_a_grid_of_clips_holds_the_last_frame_of_shorter_ones() -> None:
    short, longer = flat((200, 0, 0), frames=2), flat((0, 200, 0), frames=5, size=48)
    sheet = grid([short, longer], columns=2)
    assert sheet.shape[0] == 5
    assert sheet[4, 20, 20].tolist() == [200, 0, 0]
    with pytest.raises(ValueError, match="got 0 and 2"):
        grid([], columns=2)


def test_images_are_saved_as_png_and_clips_as_mp4(tmp_path: Path) -> None:
    still = save(flat((1, 2, 3)).frames, tmp_path / "v1.0 still", fps=8.0)
    assert still.name == "v1.0 still.png"
    with Image.open(still) as image:
        assert image.getpixel((0, 0)) == (1, 2, 3)
    moving = save(flat((1, 2, 3), frames=5).frames, tmp_path / "moving", fps=8.0)
    assert moving.name == "moving.mp4"
    assert moving.stat().st_size > 0
