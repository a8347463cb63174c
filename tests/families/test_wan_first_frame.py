"""What Wan's image-to-video models see of a clip, against the stock pipeline's own preparation."""

import pytest
import torch
from PIL import Image

from frisket.families.base import CLEAN_MASK, Source
from frisket.families.models.wan import latents
from frisket.families.models.wan.family import FAMILY

CLIP, A14B, SMALL = "2.1-i2v-14b-480p", "2.2-i2v-a14b", "2.2-ti2v-5b-i2v"
SIZE = (32, 48)


def frames(count: int, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """A clip as uint8 F H W 3."""
    generator = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, *size, 3), generator=generator).to(torch.uint8)


def clip_of(pictures: torch.Tensor) -> torch.Tensor:
    return (pictures.permute(3, 0, 1, 2)[None].float() / 255) * 2 - 1


@pytest.fixture(scope="module", params=[CLIP, A14B, SMALL])
def parts(request):
    return FAMILY.tiny(request.param)


@pytest.fixture(scope="module")
def blind():
    """Parts of a variant that has mask channels and no image encoder."""
    return FAMILY.tiny(A14B)


def observed(parts, clip, keep=None) -> dict[str, torch.Tensor]:
    return FAMILY.image_conditioning(parts.vae, parts.vision, clip, keep=keep)


def prepared(parts, picture: torch.Tensor, count: int) -> tuple[torch.Tensor, ...]:
    """The stock pipeline's own condition, and its mask of given frames for TI2V."""
    stock = FAMILY.pipeline(parts)
    image = stock.video_processor.preprocess(
        Image.fromarray(picture.numpy()), height=SIZE[0], width=SIZE[1]
    )
    channels = FAMILY.variants[parts.variant].grid.channels
    return stock.prepare_latents(image, 1, channels, *SIZE, count, torch.float32, "cpu")[1:]


@pytest.mark.parametrize("count", [5, 9])
def test_the_first_frame_is_prepared_bit_for_bit_as_the_stock_pipeline_does(parts, count):
    video = frames(count)
    told, theirs = observed(parts, clip_of(video)), prepared(parts, video[0], count)
    if parts.variant == SMALL:
        assert torch.equal(told["clean"], theirs[0])
        assert torch.equal(1 - told[CLEAN_MASK], theirs[1])
        assert told.keys() == {CLEAN_MASK, "clean"}
    else:
        assert torch.equal(told["condition"], theirs[0])
        assert ("vision" in told) == (parts.variant == CLIP)


def test_the_image_encoder_sees_what_the_stock_pipelines_does():
    parts, video = FAMILY.tiny(CLIP), frames(5, (48, 80))
    told = observed(parts, clip_of(video))["vision"]
    theirs = FAMILY.pipeline(parts).encode_image(Image.fromarray(video[0].numpy()))
    assert torch.equal(told, theirs)
    assert told.shape == (1, 5, 16)


def test_later_frames_do_not_leak_into_what_is_seen(parts):
    video = frames(9)
    other = video.clone()
    other[1:] = 255 - other[1:]
    ours, theirs = observed(parts, clip_of(video)), observed(parts, clip_of(other))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_of_a_still_nothing_is_shown(parts):
    ours, theirs = (observed(parts, clip_of(video)) for video in (frames(1), 255 - frames(1)))
    if parts.variant == SMALL:
        assert ours[CLEAN_MASK].shape == (1, 1, 1, 2, 3)
        assert not ours[CLEAN_MASK].any()
        return
    grey = FAMILY.encode(parts.vae, torch.zeros(1, 3, 1, *SIZE))
    assert torch.equal(ours["condition"][:, 4:], grey)
    assert not ours["condition"][:, :4].any()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_kept_pixels_are_shown_and_whole_cells_of_them_are_marked(blind):
    clip = clip_of(frames(9))
    keep = torch.zeros(9, *SIZE)
    keep[:, :8, :16] = 1  # two whole cells of every frame ...
    keep[6, :8, :8] = 0  # ... but not in frame 6, which is channel 1 of latent frame 2
    keep[:, 16:23, 40:] = 1  # a cell but for one row
    told = observed(blind, clip, keep)["condition"]
    wanted = torch.zeros(4, 3, 4, 6)
    wanted[:, 0] = 1  # the first frame is shown whole whatever `keep` says
    wanted[:, 1:, 0, :2] = 1
    wanted[1, 2, 0, 0] = 0
    assert torch.equal(told[0, :4], wanted)
    shown = clip * keep
    shown[:, :, 0] = clip[:, :, 0]
    assert torch.equal(told[:, 4:], FAMILY.encode(blind.vae, shown))


def test_everything_kept_is_the_whole_clip_and_nothing_kept_the_first_frame(blind):
    clip = clip_of(frames(5))
    whole = observed(blind, clip, torch.ones(5, *SIZE))["condition"]
    assert whole[:, :4].all()
    assert torch.equal(whole[:, 4:], FAMILY.encode(blind.vae, clip))
    none = observed(blind, clip, torch.zeros(5, *SIZE))["condition"]
    assert torch.equal(none, observed(blind, clip)["condition"])


def test_of_a_still_only_what_is_kept_is_shown(blind):
    clip = clip_of(frames(1))
    keep = torch.zeros(1, *SIZE)
    keep[:, :, 24:] = 1
    told = observed(blind, clip, keep)["condition"]
    assert told[0, :4, 0].flatten(1).unique(dim=0).shape[0] == 1
    assert torch.equal(told[0, 0, 0], (torch.arange(6) >= 3).float().expand(4, 6))
    assert torch.equal(told[:, 4:], FAMILY.encode(blind.vae, clip * keep))


def test_each_channel_of_a_latent_frame_is_one_pixel_frame():
    visible = torch.zeros(1, 1, 13, 8, 8)
    grid = FAMILY.variants[A14B].grid
    for frame in range(13):
        visible.zero_()[:, :, frame] = 1
        marked = latents.mask_channels(visible)[0, :, :, 0, 0].nonzero().tolist()
        index = next(i for i in range(4) if frame in grid.frames_of(i))
        channel = frame - grid.frames_of(index).start
        assert marked == ([[c, 0] for c in range(4)] if frame == 0 else [[channel, index]])


def test_a_soft_edge_is_shown_or_not_in_the_middle(blind):
    clip = clip_of(frames(5))
    soft = torch.linspace(0, 1, SIZE[1]).expand(5, *SIZE)
    hard = (soft > 0.5).float()
    told, wanted = observed(blind, clip, soft), observed(blind, clip, hard)
    assert torch.equal(told["condition"], wanted["condition"])


def test_a_batch_is_its_clips(blind):
    clips = torch.cat([clip_of(frames(5)), clip_of(255 - frames(5))])
    together = observed(blind, clips)["condition"]
    alone = torch.cat([observed(blind, clip[None])["condition"] for clip in clips])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_what_to_keep_must_fit_the_clip():
    with pytest.raises(ValueError, match=r"keep is \(4, 32, 48\) .* its clip is \(5, 32, 48\)"):
        latents.visible_in(clip_of(frames(5)), torch.ones(4, *SIZE))


def test_given_cells_tell_the_model_t_zero_and_hide_the_noise():
    parts = FAMILY.tiny(SMALL)
    told = observed(parts, clip_of(frames(5, (64, 96)))) | FAMILY.embed(parts.text, ["a fox"])
    noisy = torch.randn(1, 48, 2, 4, 6)
    other = noisy.clone()
    other[:, :, 0] = torch.nan  # whatever lies there
    t = torch.tensor([0.8])
    states, timestep = latents.build_inputs(other, t, told)
    assert torch.equal(states[:, :, :1], told["clean"])
    assert timestep.tolist() == [[0.0] * 6 + [800.0] * 6]
    with torch.no_grad():
        both = [FAMILY.predict(parts.denoiser, x, t, told) for x in (noisy, other)]
    assert torch.equal(*both)


def test_variants_that_see_nothing_are_told_nothing():
    for variant in ("2.1-t2v-1.3b", "2.2-ti2v-5b", "2.2-t2v-a14b"):
        assert FAMILY.load_vision(Source(variant)) is None
        parts = FAMILY.tiny(variant)
        assert parts.vision is None
        assert observed(parts, clip_of(frames(5, (32, 32)))) == {}


def test_the_vision_comes_back_from_its_folder(tmp_path):
    parts = FAMILY.tiny(CLIP)
    FAMILY.save(parts, tmp_path)
    vision = FAMILY.load_vision(Source(CLIP, str(tmp_path), dtype=torch.bfloat16))
    assert not any(value.requires_grad for value in vision.parameters())
    clip = clip_of(frames(5))
    half = FAMILY.image_conditioning(parts.vae, vision, clip)["vision"]
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, observed(parts, clip)["vision"], atol=0.05, rtol=0.05)
    parts.vision = None
    with pytest.raises(ValueError, match="vision not loaded"):
        FAMILY.save(parts, tmp_path / "again")
    with pytest.raises(ValueError, match="samples from a first frame: load_vision first"):
        FAMILY.pipeline(parts)


def test_sampling_without_a_first_frame_is_refused():
    parts = FAMILY.tiny(A14B)
    embeds = FAMILY.embed(parts.text, ["a fox"])
    with pytest.raises(ValueError, match=r"one first frame, 0 pictures given"):
        FAMILY.call(A14B, embeds, embeds, guidance=3.5)


def test_a_clip_in_half_precision_shows_the_image_encoder_the_very_same_picture():
    parts, clip = FAMILY.tiny(CLIP), clip_of(frames(5))
    half = observed(parts, clip.bfloat16())
    assert torch.equal(half["vision"], observed(parts, clip)["vision"])
    assert {value.dtype for value in half.values()} == {torch.float32}
