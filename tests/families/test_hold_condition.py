"""Image-to-video models under a condition made of a clip and a mask: what `frisket edit` rests on.

The mask is the model's own input here: 1 is kept, the inverse of a loss mask.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.families import lora_edit_scene as scene

from frisket.families.base import CLEAN_MASK, FAMILIES
from frisket.masks.loose import widen_to_cells

CLIP, A14B, SMALL, HUNYUAN = "2.1-i2v-14b-480p", "2.2-i2v-a14b", "2.2-ti2v-5b-i2v", "1.5-480p-i2v"
CASES = [("wan", CLIP), ("wan", A14B), ("wan", SMALL), ("hunyuan_video", HUNYUAN)]
HEIGHT, WIDTH, FRAMES = 64, 96, 5
RECORD = json.loads((Path(__file__).parent / "lora_edit.json").read_text())


@pytest.fixture(scope="module", params=CASES, ids=[variant for _, variant in CASES])
def model(request):
    family = FAMILIES.load(request.param[0])
    return family, family.tiny(request.param[1])


def draw(frames: int, seed: int = 0) -> torch.Tensor:
    """Uint8 F H W 3."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (frames, HEIGHT, WIDTH, 3), generator=generator, dtype=torch.uint8)


def clip_of(pictures: torch.Tensor) -> torch.Tensor:
    return ((pictures.float() / 255) * 2 - 1).permute(3, 0, 1, 2)[None]


def edited_box(frames: int = FRAMES) -> torch.Tensor:
    """F H W: 1 in the left third."""
    plane = torch.zeros(frames, HEIGHT, WIDTH)
    plane[:, :, :32] = 1
    return plane


def sample(model, first, conditioning=None, *, latent: bool = False, seeds=(0,)) -> torch.Tensor:
    family, parts = model
    texts = family.embed(parts.text, ["a fox"] * len(seeds))
    pipeline = family.pipeline(parts)
    pipeline.set_progress_bar_config(disable=True)
    call = family.call(parts.variant, texts, None, guidance=1.0, references=[first])
    size = {"height": HEIGHT, "width": WIDTH, "num_frames": FRAMES, "num_inference_steps": 2}
    call |= size | {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}
    call["output_type"] = "latent" if latent else "pt"
    if conditioning is None:
        return pipeline(**call).frames
    with family.hold_condition(pipeline, conditioning):
        held = pipeline(**call).frames
    assert not {"prepare_latents", "prepare_cond_latents_and_mask"} & set(vars(pipeline))
    return held


def condition(model, pictures, references=(), keep=None):
    family, parts = model
    return family.image_conditioning(parts.vae, parts.vision, clip_of(pictures), references, keep)


def test_a_reference_takes_the_place_of_the_first_frame(model):
    clip, first = draw(FRAMES), draw(1, 1)
    ours = condition(model, clip, [first])
    other = condition(model, torch.cat([first, clip[1:]]))
    assert ours.keys() == other.keys()
    assert all(torch.equal(ours[name], other[name]) for name in ours)
    with pytest.raises(ValueError, match="one first frame, 2 pictures"):
        condition(model, clip, [first, first])


def test_a_mask_of_the_first_frame_alone_is_the_stock_pipeline_bit_for_bit(model):
    clip, first = draw(FRAMES), draw(1, 1)
    keep = torch.zeros(FRAMES, HEIGHT, WIDTH)
    keep[0] = 1
    held = sample(model, first, condition(model, clip, [first], keep))
    assert torch.equal(held, sample(model, first))


def test_what_is_kept_reaches_the_sample_and_what_is_cleared_does_not(model):
    clip, first, keep = draw(FRAMES), draw(1, 1), 1 - edited_box()
    seen = condition(model, clip, [first], keep)
    held = sample(model, first, seen)
    assert not torch.equal(held, sample(model, first))
    other = clip.clone()
    other[1:, :, 32:] = 255 - other[1:, :, 32:]
    assert not torch.equal(held, sample(model, first, condition(model, other, [first], keep)))
    if CLEAN_MASK in seen:  # its cells are the whole clip's latents: see the family
        return
    other = clip.clone()
    other[1:, :, :32] = 255 - other[1:, :, :32]
    cleared = condition(model, other, [first], keep)
    assert all(torch.equal(cleared[name], seen[name]) for name in seen)


def test_every_sample_of_a_batch_has_the_same_condition(model):
    clip, first = draw(FRAMES), draw(1, 1)
    seen = condition(model, clip, [first], 1 - edited_box())
    both = sample(model, first, seen, seeds=(0, 1))
    for index in range(2):
        alone = sample(model, first, seen, seeds=(index,))
        torch.testing.assert_close(both[index], alone[0], atol=1e-4, rtol=0)


def test_a_still_is_shown_its_reference_where_it_is_kept(model):
    edited, original, keep = draw(1), draw(1, 1), 1 - edited_box(1)
    ours = condition(model, edited, [original], keep)
    other = condition(model, 255 - edited, [original], keep)
    assert all(torch.equal(ours[name], other[name]) for name in ours)  # nothing of the target
    seen = ours.get(CLEAN_MASK, ours.get("condition", ours.get("seen")))
    mask = seen[:, 32:] if "seen" in ours else seen[:, :4] if "condition" in ours else seen
    third = mask.shape[-1] // 3
    assert not mask[..., :third].any()
    assert mask[..., third:].all()
    tokens = ours.get("vision", ours.get("image"))
    if tokens is not None:  # the image encoder sees the original frame whole
        whole = condition(model, draw(1, 1).expand(FRAMES, -1, -1, -1))
        assert torch.equal(tokens, whole.get("vision", whole.get("image")))


def test_text_to_video_has_no_condition_to_hold(model):
    family, parts = model
    with pytest.raises(ValueError, match="image-to-video variant makes it"):
        family.hold_condition(family.pipeline(parts), {})
    with pytest.raises(ValueError, match="take a family with an image-to-video variant"):
        FAMILIES.load("flux").hold_condition(None, {})


def recorded(name: str) -> torch.Tensor:
    shape, bits = RECORD["channels"][name]
    flat = np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8))[: int(np.prod(shape))]
    return torch.from_numpy(flat.reshape(shape)).float()


def ours_of(edited: torch.Tensor) -> torch.Tensor:
    """4 f h w: the mask channels of our condition for F H W (1 = edited)."""
    family = FAMILIES.load("wan")
    parts = family.tiny(A14B)
    clip = torch.zeros(1, 3, *edited.shape)
    seen = family.image_conditioning(parts.vae, parts.vision, clip, (), 1 - edited)
    return seen["condition"][0, :4]


def test_mask_channels_are_the_authors():
    edited = scene.mark_clip("aligned")
    assert torch.equal(widen_to_cells(edited, 8), edited)
    theirs = recorded("aligned")
    assert theirs[:, 0].all()  # polarity: 1 is kept, and the first frame is
    assert not theirs.all()
    assert torch.equal(ours_of(edited), theirs)


def test_a_mask_between_cells_keeps_less_than_the_authors_nearest_pixel():
    edited = scene.mark_clip("loose")
    edited[0] = 0  # theirs would free it too; an edit always shows its first frame
    theirs = recorded("loose")
    theirs[:, 0] = 1
    ours = ours_of(edited)
    assert (ours <= theirs).all()
    assert not torch.equal(ours, theirs)
    assert torch.equal(ours, ours_of(widen_to_cells(edited, 8)))  # as it is once made loose


def test_the_cleared_box_is_zero_in_the_models_own_scale():
    family = FAMILIES.load("wan")
    parts = family.tiny(A14B)
    clip, keep = clip_of(draw(FRAMES)), 1 - edited_box()
    seen = family.image_conditioning(parts.vae, parts.vision, clip, (), keep)["condition"][:, 4:]
    cleared = clip * keep
    cleared[:, :, 0] = clip[:, :, 0]
    assert torch.equal(seen, family.encode(parts.vae, cleared))
    near = cleared.clone()
    near[:, :, 1:, :, :32] = 128 / 127.5 - 1  # the authors' grey, 0.004 off
    assert (family.encode(parts.vae, near) - seen).abs().max() > 0


def test_clean_tokens_are_whole_and_come_out_as_they_went_in():
    family = FAMILIES.load("wan")
    model = family, family.tiny(SMALL)
    clip, first = draw(FRAMES), draw(1, 1)
    keep = 1 - edited_box()
    keep[3, 40, 70] = 0  # one pixel of one token, in one of four frames
    seen = condition(model, clip, [first], keep)
    mask = seen[CLEAN_MASK][0, 0]
    assert mask.shape == (2, 4, 6)
    wanted = torch.tensor([0.0, 0, 1, 1, 1, 1]).expand(4, 6).clone()
    wanted[2:, 4:] = 0
    assert torch.equal(mask[1], wanted)
    assert mask[0].all()
    laid = clip_of(torch.cat([first, clip[1:]]))
    assert torch.equal(seen["clean"], family.encode(model[1].vae, laid))
    sampled = sample(model, first, seen, latent=True)
    kept = mask.bool().expand_as(sampled)
    torch.testing.assert_close(sampled[kept], seen["clean"][kept], atol=1e-6, rtol=0)
    assert not torch.allclose(sampled[~kept], seen["clean"][~kept], atol=1e-2)
