"""What docs/library.md shows and says is so."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.losses.scenes import Scene, scene_of
from torch import Tensor

import frisket

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "library.md").read_text(encoding="utf-8")
RECORDS = json.loads((HERE / "patches.json").read_text(encoding="utf-8"))
KINDS = {"l2": "mse", "l1": "l1", "mse": "mse", "huber_delta": "huber"}


def find_block(language: str, word: str) -> str:
    """The one block of a language that holds a word."""
    (block,) = (
        text for text in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if word in text
    )
    return block


def rows_of(heading: str) -> list[list[str]]:
    """The rows of the table under a heading."""
    part = PAGE.split(f"### {heading}\n")[1].split("\n### ")[0]
    return [line.split(" | ", 2) for line in re.findall(r"^\| (.*) \|$", part, re.MULTILINE)[1:]]


def ones_of(words: str) -> Tensor:
    """`2 1 64 64 uint8` or `2 1 64 64 x 255` as a tensor."""
    shape, _, factor = words.partition(" x ")
    numbers = [int(word) for word in shape.split() if word.isdigit()]
    dtype = torch.uint8 if shape.endswith("uint8") else torch.float32
    return torch.ones(numbers, dtype=dtype) * (float(factor) if factor else 1)


def test_the_diffusers_loop_learns_inside_the_mask_alone():
    loop: dict[str, object] = {}
    exec(find_block("python", "UNet2DConditionModel"), loop)
    losses = loop["losses"]
    assert sum(losses[-10:]) < 0.85 * sum(losses[:10])
    noise, t = torch.randn_like(loop["latents"]), torch.tensor([100, 900])
    noisy = loop["scheduler"].add_noise(loop["latents"], noise, t)
    prediction = loop["unet"](noisy, t, encoder_hidden_states=loop["text"]).sample
    prediction.retain_grad()
    frisket.masked_loss(prediction, noise, loop["masks"]).backward()
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 2:6] = True
    assert torch.all(prediction.grad[..., ~inside] == 0)
    assert torch.all(prediction.grad[..., inside] != 0)


@pytest.mark.parametrize(("prediction", "mask", "meaning"), rows_of("What a mask may look like"))
def test_what_the_page_accepts_is_accepted(prediction, mask, meaning):
    latents = ones_of(prediction)
    error = torch.arange(latents.numel()).view(latents.shape).float()
    value = frisket.masked_loss(error, torch.zeros_like(error), ones_of(mask))
    assert torch.equal(value, (error**2).mean()), meaning


@pytest.mark.parametrize(("prediction", "mask", "message"), rows_of("What is refused"))
def test_what_the_page_refuses_is_refused_in_its_words(prediction, mask, message):
    latents = ones_of(prediction)
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        frisket.masked_loss(latents, latents, ones_of(mask))


def masks_of(scene: Scene) -> Tensor:
    return torch.stack([torch.ones(scene.size) if mask is None else mask for mask in scene.masks])


@pytest.mark.parametrize("name", RECORDS)
def test_a_patched_trainer_gives_what_the_library_gives(name):
    record = RECORDS[name]
    for case in record["cases"]:
        scene = scene_of(**case["scene"])
        kind = KINDS[case["options"].get("loss") or case["options"].get("kind") or "mse"]
        prediction = scene.prediction.clone().requires_grad_()
        mask = masks_of(scene)[:, None]
        options = {"kind": kind, "delta": 0.5, "reduction": "none"}
        # diffusion-pipe shrinks its masks itself; musubi has no weight of a data set.
        reading = "nearest-exact" if name == "diffusion-pipe" else "mean"
        level = scene.level * (1 if name == "musubi" else scene.weight)
        losses = frisket.masked_loss(prediction, scene.target, mask, reading=reading, **options)
        value = (losses * level).mean()
        value.backward()
        torch.testing.assert_close(value, torch.tensor(case["patched"]))
        torch.testing.assert_close(prediction.grad.flatten(), torch.tensor(case["gradient"]))
        other = torch.ones_like(mask) if name == "musubi" else mask
        theirs = frisket.masked_loss(
            prediction, scene.target, other, reading=reading, normalise="none", **options
        )
        torch.testing.assert_close((theirs * level).mean(), torch.tensor(case["theirs"]))


@pytest.mark.parametrize("name", RECORDS)
def test_the_patches_are_those_that_were_run_and_change_three_lines(name):
    record = RECORDS[name]
    patch = find_block("diff", f"+++ b/{record['file']}\n")
    run_again = "record again: scripts/record_library_patches.py"
    assert hashlib.sha256(patch.encode()).hexdigest() == record["patch"], run_again
    assert f"{record['repo']}/tree/{record['commit']}" in PAGE
    lines = patch.splitlines()[2:]
    added, removed = (sum(line.startswith(sign) for line in lines) for sign in "+-")
    assert max(added, removed) <= 3


def test_masks_go_into_the_caches_of_musubi(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cache").mkdir()
    Path("masks").mkdir()
    mask = Image.new("L", (100, 50))
    mask.paste(255, (0, 0, 50, 50))
    mask.save("masks/a_b.png")
    shown = torch.zeros(16, 1, 6, 6)
    latents = {"latents_1x4x4_float32": torch.zeros(16, 1, 4, 4), "latents_image_1x6x6_f": shown}
    metadata = {"width": "100", "height": "50", "architecture": "wan"}
    save_file(latents, "cache/a_b_0100x0050_wan.safetensors", metadata)
    save_file(latents, "cache/a_b_wan_te.safetensors")
    exec(find_block("python", "save_file"), {})
    cached = load_file("cache/a_b_0100x0050_wan.safetensors")
    assert set(cached) == {*latents, "loss_mask"}
    cells = torch.tensor([1.0, 1, 0, 0]).expand(1, 1, 4, 4)
    torch.testing.assert_close(cached["loss_mask"], cells)
    assert set(load_file("cache/a_b_wan_te.safetensors")) == set(latents)
    batch = torch.stack([cached["loss_mask"]] * 2)
    latents = torch.ones(2, 16, 1, 4, 4)
    assert frisket.masked_loss(latents, 0 * latents, batch, normalise="none") == 0.5
