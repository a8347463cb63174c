"""Characters behind tokens: templates, tidying, tokenizers that do not say, variants' own texts."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attention.clip_vocabulary import build_tokenizer
from tests.families.word_tokens import apart, changed, length_of, merged, qwen, t5, umt5, with_words
from transformers import ByT5Tokenizer

from frisket.attention.tokens import PhraseCut, find_occurrences, locate
from frisket.families import tiny
from frisket.families.base import FAMILIES, Source
from frisket.families.defaults import Standard, TextBundle
from frisket.families.models.flux2.text import make_tiny_qwen
from frisket.families.shared import qwen_text
from frisket.families.shared.prompt_spans import (
    align,
    check_agreement,
    fill_gaps,
    read_cleaned,
    read_prompts,
    read_template,
    read_text,
)

PEERS = Path(__file__).parents[1] / "attention/peers/phrases.json"
VOCABULARY = json.loads(PEERS.read_text())["vocabulary"]
PAIR = ("a red fox, on a wall", "a red hub, on a wall")


TOKENIZERS = {
    "bytes": tiny.tokenizer(4096),
    "words": merged(tiny.tokenizer(4096)),
    "t5": t5(),
    "umt5": umt5(),
    "qwen": qwen(),
    "clip": build_tokenizer(VOCABULARY, "!"),
}
WORD = st.text(
    st.characters(categories=["Ll", "Lo", "Mn", "Nd", "Po", "So"]), min_size=1, max_size=6
)


@settings(max_examples=20, deadline=None)
@given(st.lists(WORD | st.sampled_from(["fox", "the", "sks"]), min_size=1, max_size=6), st.data())
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_tokens_of_a_phrase_cover_it_and_no_other_word(name, words, data):
    first = data.draw(st.integers(0, len(words) - 1))
    prompt, phrase = " ".join(words), words[first]
    spans = read_prompts(TOKENIZERS[name], [prompt], 1000)[0]
    occurrences = find_occurrences(prompt, phrase)
    positions = locate(spans, prompt, phrase)
    held = {index for position in positions for index in range(*spans[position])}
    own = {index for start, end in occurrences for index in range(start, end)}
    assert own <= held
    starts = [len(" ".join(words[:index])) + bool(index) for index in range(len(words))]
    others = {
        index
        for start, word in zip(starts, words, strict=True)
        if not own & set(range(start, start + len(word)))
        for index in range(start, start + len(word))
    }
    assert not held & others


def test_marks_of_words_and_plain_forms_are_found_in_the_prompt():
    prompt = "the \ufb01\uff4ee foxes"
    _, spans = read_text(umt5(), prompt)
    assert locate(spans, prompt, "\ufb01\uff4ee") == (2, 3, 4, 5)
    assert words(spans, prompt)[-3:] == ["fox", "es", None]


@pytest.mark.parametrize(
    "prompt",
    ["cafe\u0301 fox", "fox cafe\u0301", "cafe\u0301\u0323s fox", "\u1100\u1161\u11a8 fox"],
)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_an_accent_written_apart_is_its_letters(name, prompt):
    spans = read_prompts(TOKENIZERS[name], [prompt], 100)[0]
    phrase = next(word for word in prompt.split() if word != "fox")
    assert not {*locate(spans, prompt, phrase)} & {*locate(spans, prompt, "fox")}


def picture(height, width):
    return torch.full((1, height, width, 3), 90, dtype=torch.uint8)


def words(spans, prompt):
    return [None if span is None else prompt[slice(*span)] for span in spans]


def test_a_token_with_its_space_is_the_word_alone():
    prompt = "a red fox"
    ids, spans = read_text(merged(tiny.tokenizer(77, begin=True)), prompt)
    assert len(ids) == 8
    assert words(spans, prompt) == [None, "a", " ", "r", "e", "d", "fox", None]


def test_every_byte_of_a_letter_stands_for_it():
    prompt = "\u00e9t\u00e9 \U0001f98a"
    _, spans = read_text(tiny.tokenizer(77), prompt)
    assert words(spans, prompt)[:5] == ["\u00e9"] * 2 + ["t"] + ["\u00e9"] * 2
    assert locate(spans, prompt, "\U0001f98a") == (6, 7, 8, 9)


def test_a_tokenizer_that_does_not_say_is_aligned_by_decoding():
    prompt = "\u00e9t\u00e9 fox"
    slow = read_text(ByT5Tokenizer(), prompt).spans
    fast = read_text(tiny.tokenizer(77), prompt).spans
    assert slow == fast
    padded = read_prompts(ByT5Tokenizer(), [prompt, "a"], 7)
    assert [len(row) for row in padded] == [7, 7]
    with pytest.raises(PhraseCut, match="'fox'"):
        locate(padded[0], prompt, "fox")


def test_a_tokenizer_whose_tokens_are_not_the_prompt_is_refused():
    class Lower(ByT5Tokenizer):
        def decode(self, *args, **options):
            return super().decode(*args, **options).lower()

    with pytest.raises(ValueError, match=r"Lower does not say.*'A Fox'.*fast tokenizer"):
        read_text(Lower(), "A Fox")


@pytest.mark.parametrize(
    ("prompt", "cleaned", "phrase"),
    [
        ("  a  red\tfox ", "a red fox", "red\tfox"),
        ("salt &amp; pepper fox", "salt & pepper fox", "fox"),
        ("salt &amp;amp; pepper", "salt & pepper", "pepper"),
        ("a sch\u00c3\u00b6n fox", "a sch\u00f6n fox", "sch\u00c3\u00b6n"),
        ("\u201cfox\u201d hole", '"fox" hole', "fox"),
        ("the [IMG]fox", "the fox", "fox"),
    ],
)
def test_what_was_tidied_up_is_where_it_was(prompt, cleaned, phrase):
    spans = read_cleaned(tiny.tokenizer(77), cleaned, prompt).spans
    positions = locate(spans, prompt, phrase)
    start = prompt.index(phrase)
    inside = [spans[position] for position in positions]
    assert min(span[0] for span in inside) <= start
    assert max(span[1] for span in inside) == start + len(phrase)
    assert positions == tuple(range(positions[0], positions[-1] + 1))


def test_characters_out_of_nothing_have_no_place():
    assert align("a b", "ab") == [(0, 1), (1, 1), (1, 2)]
    assert align(" ", "") == [(0, 0)]


def test_what_is_dropped_counts_to_what_follows_it():
    assert fill_gaps([None, (4, 5), (9, 10), (9, 10)], "[x] a [y]b") == [
        None,
        (0, 5),
        (6, 10),
        (9, 10),
    ]


@pytest.mark.parametrize("prompt", ["user", "assistant", "{fox}", "a\nfox", "system"])
def test_a_prompt_in_the_words_of_its_template_is_found(prompt):
    tokenizer = tiny.tokenizer(512)

    def render(words):
        return f"<|im_start|>system\nassistant user\n{words}<|im_end|>\nassistant user\n"

    spans = read_template(tokenizer, render, prompt).spans
    assert "".join(word for word in words(spans, prompt) if word) == prompt


def test_a_template_without_the_prompt_is_refused():
    with pytest.raises(ValueError, match="does not hold the prompt 'fox' once"):
        read_template(tiny.tokenizer(77), lambda _: "nothing", "fox")


def test_tokenizers_side_by_side_must_cut_alike():
    with pytest.raises(ValueError, match="two tokenizers of SDXL"):
        check_agreement([[(0, 1)]], [[(0, 2)]], model_name="SDXL")


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("variant", ["sd15", "sdxl"])
def test_pieces_of_75_tokens_are_one_axis(variant, pieces):
    family = FAMILIES.load("stable_diffusion")
    source = Source(variant, max_tokens=75 * pieces, clip_skip=2 if variant == "sd15" else 0)
    text = apart(family.rehearsal_parts(source).text)
    lead = "x" * (75 * pieces - 4)
    pair = (f"{lead} fox", f"{lead} hub")
    (spans, _) = family.read_spans(text, pair)
    assert len(spans) == 75 * pieces + 2
    assert locate(spans, pair[0], "fox") == (*range(75 * pieces - 2, 75 * pieces + 1),)
    assert locate(spans, pair[0], "fox") == changed(family.embed(text, pair))
    longer = f"{lead} x fox"
    with pytest.raises(PhraseCut):
        locate(family.read_spans(text, [longer])[0], longer, "fox")


def test_wan_finds_words_from_before_it_tidied_the_prompt():
    family = FAMILIES.load("wan")
    text = TextBundle(tokenizer=tiny.tokenizer(512))
    prompt = "  salt &amp;  pepper fox\n "
    spans = family.read_spans(text, [prompt])[0]
    assert len(spans) == 512
    assert locate(spans, prompt, "fox") == (14, 15, 16)
    assert locate(spans, prompt, "salt &amp; pepper") == tuple(range(13))


def test_klein_and_dev_put_prompts_into_templates_of_their_own():
    family, text = FAMILIES.load("flux2"), with_words(apart(make_tiny_qwen()))
    spans = family.read_spans(text, PAIR)
    assert locate(spans[0], PAIR[0], "fox") == changed(family.embed(text, PAIR))


@pytest.mark.parametrize(("several", "sizes"), [(False, 1), (True, 1), (True, 2)])
def test_pictures_of_an_edit_model_come_before_the_words(several, sizes):
    family = FAMILIES.load("qwen_image")
    encoder = tiny.quiet(qwen_text.tiny_encoder())[0]
    text = apart(
        qwen_text.EditText(
            several=several,
            tokenizer=qwen_text.tiny_tokenizer(),
            processor=qwen_text.tiny_processor(),
            text_encoder=encoder,
        )
    )
    shown = [[picture(40, 60), picture(90, 30)][:sizes]] * 2
    spans, conditioning = family.read_spans(text, PAIR, shown), family.embed(text, PAIR, shown)
    assert len(spans[0]) == length_of(conditioning, 0)
    assert locate(spans[0], PAIR[0], "fox") == changed(conditioning)
    with pytest.raises(ValueError, match="2 prompts, pictures for 0"):
        family.read_spans(text, PAIR)


def test_a_family_that_does_not_say_is_refused_by_name():
    class Silent(Standard):
        name = "silent"

    with pytest.raises(ValueError, match="Silent does not say which token"):
        Silent().load_tokenizer(Source("any"))
    with pytest.raises(ValueError, match="Silent does not say which token"):
        Silent().read_spans(TextBundle(), ["a fox"])
