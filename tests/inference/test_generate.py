"""Sampling: what is asked for comes out, whatever the batch, and nothing else changes."""

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from frisket.families.base import FAMILIES, Family, Parts
from frisket.inference.generate import Picture, generate, grid, save

PROMPTS = ["a red cat", "a green dog on a wall", "a blue bird"]


@pytest.fixture(scope="module", params=["wan", "pocket"])
def loaded(request: pytest.FixtureRequest) -> tuple[Family, Parts]:
    family = FAMILIES.load(request.param)
    return family, family.tiny(next(iter(family.variants)))


def sample(loaded: tuple[Family, Parts], batch: int, **changes: object) -> list[Picture]:
    family, parts = loaded
    frames = 5 if family.variants[parts.variant].video else 1
    wanted: dict[str, object] = {
        "seeds": [7, 8, 9],
        "height": 32,
        "width": 48,
        "frames": frames,
        "steps": 2,
        "guidance": 2.0,
    }
    return list(generate(family, parts, PROMPTS, batch=batch, **(wanted | changes)))  # type: ignore[arg-type]


def test_pictures_have_the_size_asked_for_and_name_prompt_and_seed(
    loaded: tuple[Family, Parts],
) -> None:
    pictures = sample(loaded, 2)
    frames = 5 if loaded[0].variants[loaded[1].variant].video else 1
    assert [(p.prompt, p.seed) for p in pictures] == list(zip(PROMPTS, [7, 8, 9], strict=True))
    for picture in pictures:
        assert picture.frames.shape == (frames, 32, 48, 3)
        assert picture.frames.dtype == torch.uint8
        assert picture.frames.float().std() > 1


def test_a_picture_depends_on_its_seed_and_not_on_its_batch(loaded: tuple[Family, Parts]) -> None:
    alone, together = sample(loaded, 1), sample(loaded, 3)
    for one, other in zip(alone, together, strict=True):
        assert (one.frames.int() - other.frames.int()).abs().max() <= 1
    again = sample(loaded, 1, seeds=[7, 7, 9])
    assert torch.equal(again[0].frames, alone[0].frames)
    assert not torch.equal(again[1].frames, alone[1].frames)


def test_generators_modes_and_gradients_are_left_as_they_were(
    loaded: tuple[Family, Parts],
) -> None:
    denoiser = loaded[1].denoiser
    assert isinstance(denoiser, nn.Module)
    denoiser.train()
    first = next(denoiser.children())
    first.eval()
    before = torch.get_rng_state()
    try:
        sample(loaded, 2)
        assert denoiser.training
        assert not first.training
    finally:
        denoiser.eval()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()


def test_what_cannot_be_sampled_is_said_before_any_work(loaded: tuple[Family, Parts]) -> None:
    family, parts = loaded
    with pytest.raises(ValueError, match="3 prompts but 1 seeds"):
        generate(family, parts, PROMPTS, seeds=[1])
    with pytest.raises(ValueError, match="sides are multiples of"):
        generate(family, parts, ["a"], seeds=[1], height=33, width=48)
    with pytest.raises(ValueError, match=r"frames|images"):
        generate(family, parts, ["a"], seeds=[1], height=32, width=48, frames=6)
    with pytest.raises(ValueError, match="denoiser is not loaded"):
        generate(family, Parts(parts.variant), ["a"], seeds=[1])


def test_a_broken_model_is_warned_of_and_painted_black(caplog: pytest.LogCaptureFixture) -> None:
    family = FAMILIES.load("pocket")
    parts = family.tiny("image")
    assert parts.denoiser is not None
    with torch.no_grad():
        next(parts.denoiser.parameters()).fill_(float("nan"))
    with caplog.at_level(logging.WARNING):
        (picture,) = generate(family, parts, ["a cat"], seeds=[3], steps=1)
    assert not picture.frames.any()
    assert "'a cat', seed 3, has NaN" in caplog.text


def flat(colour: tuple[int, int, int], frames: int = 1, size: int = 32, **text: object) -> Picture:
    painted = torch.tensor(colour, dtype=torch.uint8).expand(frames, size, size, 3).contiguous()
    return Picture(str(text.get("prompt", "a prompt")), 5, painted)


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
