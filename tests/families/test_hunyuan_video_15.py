"""HunyuanVideo-1.5 against the stock diffusers pipelines: text and image to video."""

import logging
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from frisket.families.base import CLEAN_MASK, Source
from frisket.families.models.hunyuan_video.family import FAMILY

TEXT, SEEING = "1.5-480p-t2v", "1.5-480p-i2v"
PROMPTS = ['a fox beside a sign "OPEN \u00e9"', "boats"]
NEGATIVE = "blurry"
SIZE = {"height": 32, "width": 48, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def parts():
    return FAMILY.tiny(TEXT)


@pytest.fixture(scope="module")
def seeing():
    return FAMILY.tiny(SEEING)


@pytest.fixture(scope="module")
def saved(parts, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("hunyuan15")
    FAMILY.save(parts, folder)
    return folder


def piped(parts):
    pipeline = FAMILY.pipeline(parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeds() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (1, 2)]


def captured(pipeline, **given) -> list[tuple[dict, torch.Tensor]]:
    """What a stock pipeline hands its transformer at each call, and what it gets."""
    calls = []
    handle = pipeline.transformer.register_forward_hook(
        lambda _, __, kwargs, out: calls.append((kwargs, out[0])), with_kwargs=True
    )
    pipeline(**given, output_type="latent")
    handle.remove()
    return calls


def assert_texts(ours, given) -> None:
    """Equal where the masks say there is a token, and the masks end where ours do."""
    for name, suffix in (("text", ""), ("glyphs", "_2")):
        embeds, mask = ours[name], ours[f"{name}_mask"]
        stock = given[f"encoder_attention_mask{suffix}"]
        assert torch.equal(stock[:, : mask.shape[1]], mask.float())
        assert not stock[:, mask.shape[1] :].any()
        shown = given[f"encoder_hidden_states{suffix}"][:, : mask.shape[1]] * mask[..., None]
        torch.testing.assert_close(embeds, shown, atol=1e-5, rtol=0)


def predict(denoiser, parts, frames: int = 2) -> torch.Tensor:
    with torch.no_grad():
        given = FAMILY.embed(parts.text, PROMPTS[:1])
        return FAMILY.predict(denoiser, draw(1, 32, frames, 2, 3), torch.tensor([0.7]), given)


@pytest.mark.parametrize("frames", [1, 5])
def test_the_transformer_is_fed_what_the_stock_pipeline_feeds_it(parts, frames):
    stock = diffusers.HunyuanVideo15Pipeline(**piped(parts).components)
    stock.set_progress_bar_config(disable=True)
    calls = captured(
        stock,
        prompt=PROMPTS,
        negative_prompt=[NEGATIVE] * 2,
        num_frames=frames,
        generator=seeds(),
        **SIZE,
    )
    assert len(calls) == 4
    for index, (given, prediction) in enumerate(calls):
        conditioning = FAMILY.embed(parts.text, [NEGATIVE] * 2 if index % 2 else PROMPTS)
        assert_texts(conditioning, given)
        noisy, rest = given["hidden_states"].split((32, 33), 1)
        assert not rest.any()
        assert not given["image_embeds"].any()
        if index == 0:
            first = [draw(1, 32, 1 + frames // 4, 2, 3, seed=seed) for seed in (1, 2)]
            torch.testing.assert_close(noisy, torch.cat(first))
        with torch.no_grad():
            ours = FAMILY.predict(parts.denoiser, noisy, given["timestep"] / 1000, conditioning)
        torch.testing.assert_close(ours, prediction, atol=1e-5, rtol=0)


def test_only_what_stands_in_quotation_marks_is_a_glyph(parts):
    given = FAMILY.embed(parts.text, PROMPTS)
    assert given["glyphs_mask"].sum(1).tolist() == [len('Text "OPEN é". '.encode()) + 1, 0]
    assert FAMILY.embed(parts.text, PROMPTS[1:])["glyphs"].shape == (1, 1, 16)


def test_padding_with_zeros_changes_nothing(parts):
    given = FAMILY.embed(parts.text, PROMPTS)
    more = {
        name: torch.cat([value, value.new_zeros(2, 7, *value.shape[2:])], 1)
        for name, value in given.items()
    }
    noisy, t = draw(2, 32, 2, 2, 3), torch.tensor([0.6, 0.3])
    with torch.no_grad():
        plain, padded = (FAMILY.predict(parts.denoiser, noisy, t, g) for g in (given, more))
        alone = FAMILY.predict(
            parts.denoiser, noisy[1:], t[1:], FAMILY.embed(parts.text, PROMPTS[1:])
        )
    assert torch.equal(plain, padded)
    torch.testing.assert_close(plain[1:], alone, atol=1e-5, rtol=0)


def test_the_timestep_is_not_rounded_by_a_bfloat16_model(saved):
    denoiser = FAMILY.load_denoiser(Source(TEXT, str(saved), dtype=torch.bfloat16))
    parts = FAMILY.tiny(TEXT)
    given = FAMILY.embed(parts.text, PROMPTS[:1])
    told = {}
    denoiser.register_forward_pre_hook(lambda _, __, kw: told.update(kw), with_kwargs=True)
    noisy = draw(1, 32, 1, 2, 3)
    prediction = FAMILY.predict(denoiser, noisy, torch.tensor([0.9371]), given)
    assert told["timestep"].item() == pytest.approx(937.1)
    assert prediction.dtype == torch.float32
    near = FAMILY.predict(parts.denoiser, noisy, torch.tensor([0.9371]), given)
    torch.testing.assert_close(prediction, near, atol=0.05, rtol=0.1)
    assert not denoiser.time_embed.timestep_embedder._forward_pre_hooks


def test_guidance_is_an_argument_and_leaves_the_pipeline_as_it_was(parts):
    bare = FAMILY.tiny(TEXT)
    bare.text = None
    positive, negative = (FAMILY.embed(parts.text, texts) for texts in (PROMPTS, [NEGATIVE] * 2))
    stock = diffusers.HunyuanVideo15Pipeline(**piped(parts).components)
    stock.set_progress_bar_config(disable=True)
    stock.guider = stock.guider.new(guidance_scale=3.0)
    theirs = stock(
        prompt=PROMPTS,
        negative_prompt=[NEGATIVE] * 2,
        num_frames=5,
        generator=seeds(),
        output_type="pt",
        **SIZE,
    ).frames
    ours = piped(bare)
    given = FAMILY.call(TEXT, positive, negative, guidance=3.0)
    found = ours(**given, num_frames=5, generator=seeds(), output_type="pt", **SIZE).frames
    torch.testing.assert_close(found, theirs, atol=1e-5, rtol=0)
    assert ours.guider.config.guidance_scale == FAMILY.variants[TEXT].guidance
    unguided = FAMILY.call(TEXT, positive, None, guidance=3.0)
    calls = captured(ours, **unguided, num_frames=1, generator=seeds(), **SIZE)
    assert len(calls) == SIZE["num_inference_steps"]


def test_what_is_saved_names_the_public_classes(parts, saved):
    stock = DiffusionPipeline.from_pretrained(saved, local_files_only=True)
    assert type(stock) is diffusers.HunyuanVideo15Pipeline
    assert stock.scheduler.config.shift == 5
    assert stock.guider.config.guidance_scale == 6
    assert torch.equal(predict(stock.transformer, parts), predict(parts.denoiser, parts))


def test_a_prompt_beyond_the_models_length_is_cut_aloud(parts, caplog):
    with caplog.at_level(logging.WARNING, logger="frisket"):
        given = FAMILY.embed(parts.text, ['"' + "x" * 1200 + '"'])
    assert given["text"].shape == (1, 1000, 16)
    assert given["glyphs"].shape == (1, 256, 16)
    assert "text: all 1000 tokens" in caplog.text
    assert "glyphs: all 256 tokens" in caplog.text


def test_decode_gives_the_pixels_of_the_stock_pipeline(parts):
    pipeline = piped(parts)

    def sample(kind: str) -> torch.Tensor:
        given = {"prompt": PROMPTS[0], "num_frames": 5, "guidance_scale": 1.0, **SIZE}
        return pipeline(**given, generator=seeds()[0], output_type=kind).frames

    ours = FAMILY.decode(parts.vae, sample("latent")) / 2 + 0.5
    torch.testing.assert_close(ours.transpose(1, 2).clamp(0, 1), sample("pt"), atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 5, 17])
def test_a_painted_cell_is_the_only_one_that_teaches(parts, frames):
    latents = FAMILY.encode(parts.vae, draw(1, 3, frames, 32, 48).clamp(-1, 1))
    assert FAMILY.variants[TEXT].grid.cells(frames, 32, 48) == latents.shape[2:]
    f = latents.shape[2] - 1
    given = FAMILY.embed(parts.text, PROMPTS[:1])
    noisy = latents.requires_grad_()
    prediction = FAMILY.predict(parts.denoiser, noisy, torch.tensor([0.5]), given)
    prediction.retain_grad()
    weights = torch.zeros(1, 1, *latents.shape[2:])
    weights[..., f, 1, 2] = 1
    (weights * prediction**2).sum().backward()
    assert (prediction.grad != 0).any(1)[0].nonzero().tolist() == [[f, 1, 2]]


def test_image_to_video_is_fed_what_the_stock_pipeline_feeds_it(seeing):
    clip = (torch.rand(1, 3, 5, 32, 48) * 255).round() / 127.5 - 1
    frame = ((clip[0, :, 0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0)
    calls = captured(
        piped(seeing),
        image=Image.fromarray(frame.numpy()),
        prompt=PROMPTS[0],
        negative_prompt=NEGATIVE,
        num_frames=5,
        generator=seeds()[0],
        **SIZE,
    )
    seen = FAMILY.image_conditioning(seeing.vae, seeing.vision, clip)
    for index, (given, prediction) in enumerate(calls):
        texts = FAMILY.embed(seeing.text, [NEGATIVE if index % 2 else PROMPTS[0]])
        assert_texts(texts, given)
        noisy, rest = given["hidden_states"].split((32, 33), 1)
        torch.testing.assert_close(seen["seen"], rest, atol=1e-5, rtol=0)
        torch.testing.assert_close(seen["image"], given["image_embeds"], atol=1e-5, rtol=0)
        with torch.no_grad():
            told = {**texts, **seen}
            ours = FAMILY.predict(seeing.denoiser, noisy, given["timestep"] / 1000, told)
        torch.testing.assert_close(ours, prediction, atol=1e-5, rtol=0)
    assert seen["seen"][0, 32, :, 0, 0].tolist() == [1, 0]
    assert CLEAN_MASK not in seen  # the model denoises the shown frame too when it samples


def test_image_to_video_samples_in_the_size_that_is_asked_for(seeing):
    picture = torch.randint(256, (1, 40, 40, 3), dtype=torch.uint8)
    texts = FAMILY.embed(seeing.text, PROMPTS[:1])
    given = FAMILY.call(SEEING, texts, None, guidance=1.0, references=[picture])
    pipeline = piped(seeing)
    frames = pipeline(**given, num_frames=5, generator=seeds()[0], output_type="pt", **SIZE).frames
    assert frames.shape == (1, 5, 3, 32, 48)
    stock = pipeline(**given, num_frames=1, num_inference_steps=1, output_type="latent").frames
    assert stock.shape == (1, 32, 1, 4, 4)  # the bucket of a square, of target_size 64


def test_kept_pixels_are_handed_over_where_a_whole_cell_is_kept(seeing):
    clip = draw(1, 3, 9, 32, 48).clamp(-1, 1)
    keep = torch.zeros(9, 32, 48)
    keep[:, :16, :20] = 1  # one whole cell, and some pixels of its neighbour
    keep[8, 0, 0] = 0  # but not in the last latent frame
    seen = FAMILY.image_conditioning(seeing.vae, seeing.vision, clip, (), keep)
    where = torch.zeros(3, 2, 3)
    where[0] = 1
    where[1, 0, 0] = 1
    assert torch.equal(seen["seen"][0, 32], where)
    assert torch.equal(seen["seen"][0, :32].ne(0).any(0), where.bool())
    torch.testing.assert_close(
        seen["seen"][:, :32, :1], FAMILY.encode(seeing.vae, clip[:, :, :1]), atol=1e-4, rtol=0
    )


def test_a_still_is_not_shown_what_it_is_to_learn(seeing):
    clip = draw(1, 3, 1, 32, 48).clamp(-1, 1)
    seen = FAMILY.image_conditioning(seeing.vae, seeing.vision, clip)
    assert not seen["seen"].any()
    assert not seen["image"].any()
    texts = FAMILY.embed(seeing.text, PROMPTS[:1])
    noisy, t = draw(1, 32, 1, 2, 3), torch.tensor([0.6])
    with torch.no_grad():
        stills, plain = (
            FAMILY.predict(seeing.denoiser, noisy, t, given) for given in ({**texts, **seen}, texts)
        )
    torch.testing.assert_close(stills, plain, atol=1e-5, rtol=0)
    keep = torch.zeros(1, 32, 48)
    keep[:, 16:] = 1
    kept = FAMILY.image_conditioning(seeing.vae, seeing.vision, clip, (), keep)["seen"]
    assert kept[0, 32, 0].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert kept[0, :32].any()
