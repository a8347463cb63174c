"""Clip skip and long prompts of Stable Diffusion, against what kohya's own code gave for them."""

import json
import logging
from pathlib import Path

import pytest
import torch
from tests.families import clip_words

from frisket.families.base import Parts, Source
from frisket.families.models.stable_diffusion.family import FAMILY
from frisket.families.shared.clip_prompts import ClipText, token_pieces

ROWS = json.loads(Path(__file__).with_name("peer_prompts.json").read_text(encoding="utf-8"))["rows"]


@pytest.fixture(scope="module")
def encoders():
    return clip_words.encoder(1), clip_words.encoder(2, layers=4, projection=True)


def bundle(encoders, variant: str, padding: str, skip: int = 0, length: int = 75) -> ClipText:
    """The encoders as the family loads them, its first tokenizer padding with the end."""
    source = Source(variant, clip_skip=skip, max_tokens=length)
    if variant == "sd15":
        words = clip_words.tokenizer(padding=padding)
        return ClipText(source, tokenizer=words, text_encoder=encoders[0])
    return ClipText(
        source,
        tokenizer=clip_words.tokenizer(padding="<end>"),
        text_encoder=encoders[0],
        tokenizer_2=clip_words.tokenizer(padding=padding),
        text_encoder_2=encoders[1],
    )


def near(ours: list[float], theirs: list[float]) -> None:
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "row",
    ROWS,
    ids=lambda row: f"{row['model']}{row['padding']}-{row['max_tokens']}-{row['clip_skip']}",
)
def test_prompts_become_what_kohya_trains_on(row, encoders):
    skip, length = row["clip_skip"] or 0, row["max_tokens"] or 75
    text = bundle(encoders, row["model"], row["padding"], skip, length)
    made = FAMILY.embed(text, clip_words.PROMPTS)
    assert made["text"].shape[:2] == (len(clip_words.PROMPTS), length + 2)
    near(clip_words.summed(made["text"]), row["text"])
    if "pooled" in row:
        near(made["pooled"].flatten().tolist(), row["pooled"])


def test_the_record_tells_every_way_of_reading_apart():
    single = [row["text"] for row in ROWS if row["model"] == "sd15"]
    assert len({tuple(each) for each in single}) == len(single)


def test_the_last_layer_is_one_and_none(encoders):
    none, one, two = (
        FAMILY.embed(bundle(encoders, "sd15", "<end>", skip), clip_words.PROMPTS)["text"]
        for skip in (0, 1, 2)
    )
    assert torch.equal(none, one)
    assert (one - two).abs().max() > 1e-2
    # And read by our own way it is what the public pipeline gives.
    long = FAMILY.embed(bundle(encoders, "sd15", "<end>", 1, 150), ["a red fox"])["text"]
    short = FAMILY.embed(bundle(encoders, "sd15", "<end>", 1), ["a red fox"])["text"]
    torch.testing.assert_close(long[:, :76], short[:, :76], atol=1e-5, rtol=0)


def test_a_piece_has_a_begin_and_an_end_of_its_own():
    words = clip_words.tokenizer(padding="!")
    begin, end, pad = words.bos_token_id, words.eos_token_id, words.pad_token_id
    found = token_pieces(words, ["x" * 80, ""], 3)
    assert found.shape == (2, 3, 77)
    assert (found[..., 0] == begin).all()
    assert found[0, 0, -1] == end  # a full piece
    assert found[0, 1, 6] == end
    assert found[0, 1, -1] == pad
    assert found[0, 2, 1] == end  # nothing but padding
    assert (found[0, 2, 2:] == pad).all()
    assert token_pieces(words, ["x" * 80], 1)[0, 0, -1] == end


@pytest.mark.parametrize(("length", "cut"), [(75, 77), (150, 152), (225, 227)])
def test_what_is_cut_is_said_with_what_reads_more(length, cut, caplog):
    source = Source("sdxl", max_tokens=length)
    text = FAMILY.rehearsal_parts(source).text
    with caplog.at_level(logging.WARNING):
        FAMILY.embed(text, ["y" * length])
    assert "cut to" not in caplog.text
    with caplog.at_level(logging.WARNING):
        made = FAMILY.embed(text, ["y" * 300, "short"])
    assert made["text"].shape[:2] == (2, cut)
    assert f"302 tokens cut to {cut}" in caplog.text
    assert ("model.max_tokens = 225 reads more" in caplog.text) == (length < 225)


@pytest.mark.parametrize("variant", ["sd15", "sdxl"])
def test_a_picture_is_sampled_as_the_prompt_is_read(variant):
    skip = 2 if variant == "sd15" else 0
    parts = FAMILY.rehearsal_parts(Source(variant, clip_skip=skip, max_tokens=150))
    embeds = FAMILY.embed(parts.text, ["a red fox, " * 12, "blurry"])
    positive, negative = ({k: v[i : i + 1] for k, v in embeds.items()} for i in (0, 1))
    pipeline = FAMILY.pipeline(Parts(variant, parts.vae, None, parts.denoiser))
    pipeline.set_progress_bar_config(disable=True)
    call = FAMILY.call(variant, positive, negative, guidance=3.0)
    made = pipeline(
        num_inference_steps=1, output_type="latent", height=64, width=64,
        generator=torch.Generator().manual_seed(1), **call,
    ).images  # fmt: skip
    assert made.isfinite().all()


@pytest.mark.parametrize("variant", ["sd15", "sdxl"])
def test_loaded_encoders_read_as_their_source_asks(variant, tmp_path):
    FAMILY.save(FAMILY.tiny(variant), tmp_path)
    asked = Source(variant, str(tmp_path), clip_skip=2, max_tokens=225)
    assert FAMILY.embed(FAMILY.load_text(asked), ["a fox"])["text"].shape[1] == 227
    plain = FAMILY.load_text(Source(variant, str(tmp_path)))
    assert FAMILY.embed(plain, ["a fox"])["text"].shape[1] == 77
