"""The pocket family's image-to-video model: what it is shown, and that it makes use of it."""

import numpy as np
import pytest
import torch

from frisket.families.base import Source
from frisket.families.models.pocket import FAMILY
from frisket.families.models.pocket.first_frame import mark_visible
from frisket.families.models.pocket.weights import add_difference, read_packaged, widen_input
from frisket.pocket.world import draw, frames_of, is_held_out, random_scene

VARIANT = "video-i2v"


def draw_clip(seed: int = 0) -> tuple[str, torch.Tensor]:
    """A held-out caption and its clip, F H W 3 uint8."""
    rng = np.random.RandomState(seed)
    while not is_held_out(scene := random_scene(rng, motions=("rising", "leftward"))):
        pass
    frames = np.stack([draw(each)[0] for each in frames_of(scene, 5)])
    return scene.caption, torch.from_numpy(frames)


def scale(frames: torch.Tensor) -> torch.Tensor:
    return (frames.permute(3, 0, 1, 2)[None].float() / 127.5) - 1


def show(clip: torch.Tensor, keep=None, references=()) -> torch.Tensor:
    parts = FAMILY.tiny(VARIANT)
    return FAMILY.image_conditioning(parts.vae, parts.vision, clip, references, keep)["condition"]


def test_the_mask_is_one_where_a_cell_is_kept_in_each_of_its_frames() -> None:
    """As Wan's: four channels for the four frames of a group, frame 0 said four times."""
    clip = scale(draw_clip()[1])
    keep = torch.ones(5, 32, 32)
    keep[2, 10, 7] = 0
    mask = show(clip, keep)[0, :4]
    expected = torch.ones(4, 2, 16, 16)
    expected[1, 1, 5, 3] = 0
    assert torch.equal(mask, expected)
    first_alone = show(clip)[0, :4]
    assert first_alone[:, 0].all()
    assert not first_alone[:, 1].any()


def test_what_is_not_kept_is_zero_and_the_rest_the_clips_latents() -> None:
    clip = scale(draw_clip()[1])
    keep = torch.zeros(5, 32, 32)
    keep[:, :, 16:] = 1
    latents = show(clip, keep)[:, 4:]
    whole = FAMILY.encode(FAMILY.tiny(VARIANT).vae, clip)
    assert torch.equal(latents[:, :, 0], whole[:, :, 0])
    assert torch.equal(latents[:, :, 1, :, 8:], whole[:, :, 1, :, 8:])
    assert not latents[:, :, 1, :, :8].any()


def test_a_still_shows_only_what_is_kept() -> None:
    clip = scale(draw_clip()[1][:1])
    assert not show(clip).any()
    keep = torch.zeros(1, 32, 32)
    keep[:, 16:] = 1
    mask = show(clip, keep)[0, :4, 0]
    assert mask[:, 8:].all()
    assert not mask[:, :8].any()


def test_a_reference_is_the_first_frame_and_sizes_are_checked() -> None:
    frames, other = draw_clip()[1], draw_clip(1)[1]
    shown = show(scale(frames), references=[other[:1]])
    assert torch.equal(shown, show(scale(torch.cat([other[:1], frames[1:]]))))
    with pytest.raises(ValueError, match=r"keep is \(4, 32, 32\)"):
        mark_visible(scale(frames), torch.ones(4, 32, 32))


def test_other_models_neither_need_nor_take_a_condition() -> None:
    clip = scale(draw_clip()[1])
    condition, tokens = show(clip), torch.zeros(1, 12, 64)
    plain, seeing = FAMILY.tiny("video"), FAMILY.tiny(VARIANT)
    assert FAMILY.image_conditioning(plain.vae, plain.vision, clip) == {}
    noisy, t = torch.zeros(1, 48, 2, 16, 16), torch.ones(1)
    with pytest.raises(ValueError, match="reads 96 channels and was given 200"):
        FAMILY.predict(plain.denoiser, noisy, t, {"tokens": tokens, "condition": condition})
    with pytest.raises(ValueError, match="reads 200 channels and was given 96"):
        FAMILY.predict(seeing.denoiser, noisy, t, {"tokens": tokens})
    with pytest.raises(ValueError, match="2 pictures"):
        FAMILY.call(
            VARIANT, {"tokens": tokens}, None, guidance=1.0, references=[draw_clip()[1][:1]] * 2
        )


def test_a_folder_of_another_variant_is_refused(tmp_path) -> None:
    FAMILY.save(FAMILY.tiny("video"), tmp_path)
    with pytest.raises(ValueError, match="reads 96 channels, and pocket video-i2v reads 200"):
        FAMILY.load_denoiser(Source(VARIANT, str(tmp_path)))


def test_the_packaged_difference_is_of_the_clip_model() -> None:
    """Without it the model is the clip model, whatever it is shown."""
    state = read_packaged("video")
    wide = widen_input(state)
    assert torch.equal(wide["conv_in.weight"][:, :96], state["conv_in.weight"])
    assert not wide["conv_in.weight"][:, 96:].any()
    down, up = torch.randn(2, 96, 3, 3), torch.randn(96, 2, 1, 1)
    name = "mid_block.resnets.0.conv1"
    factors = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    added = add_difference(state, factors)[f"{name}.weight"] - state[f"{name}.weight"]
    picture = torch.randn(1, 96, 8, 8)
    through = torch.nn.functional.conv2d(torch.nn.functional.conv2d(picture, down), up)
    assert torch.allclose(torch.nn.functional.conv2d(picture, added), through, atol=1e-3)


@torch.no_grad()
def test_the_packaged_model_goes_on_from_the_frame_it_is_shown() -> None:
    """At almost pure noise it knows the clip's first frame, and without one it does not."""
    denoiser = FAMILY.load_denoiser(Source(VARIANT))
    captions, clips = zip(*(draw_clip(seed) for seed in range(6)), strict=True)
    pixels = torch.cat([scale(clip) for clip in clips])
    text = FAMILY.load_text(Source(VARIANT))
    clean = FAMILY.encode(FAMILY.load_vae(Source(VARIANT)), pixels)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    t = torch.full((6,), 0.95)
    errors = []
    for condition in (show(pixels), torch.zeros(6, 52, 2, 16, 16)):
        seen = FAMILY.embed(text, captions) | {"condition": condition}
        velocity = FAMILY.predict(denoiser, 0.05 * clean + 0.95 * noise, t, seen)
        difference = (velocity - (noise - clean)).square()
        errors.append(difference.mean((0, 1, 3, 4)))
    assert (errors[0] < 0.7 * errors[1]).all()
    assert errors[0][0] < 0.3 * errors[1][0]
