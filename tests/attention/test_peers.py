"""Phrases are where TARA's and TokenCompose's own code finds them, with CLIP's own tokenizer.

Theirs search token ids (scripts/record_peer_phrases.py runs them), ours characters. Where they
part: theirs also take a word for the end of another one (`fox` in `dogfox`), TokenCompose takes
the first occurrence alone and, of a word that is cut off, positions beyond the last; TARA finds
such a word nowhere without saying so.
"""

import json
from pathlib import Path

import pytest
from tests.attention.clip_vocabulary import build_tokenizer

from frisket.attention.tokens import PhraseCut, PhraseNotFound, locate
from frisket.families.base import FAMILIES, Source
from frisket.families.shared.clip_prompts import ClipText

RECORD = json.loads(Path(__file__).with_name("peers").joinpath("phrases.json").read_text())
INSIDE = {("the dogfox", "fox"), ("the xqzxqwv", "zxqwv")}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def text(request):
    source = Source(request.param)
    tokenizers = {"tokenizer": build_tokenizer(RECORD["vocabulary"], "<|endoftext|>")}
    if request.param == "sdxl":
        tokenizers["tokenizer_2"] = build_tokenizer(RECORD["vocabulary"], "!")
    return ClipText(source, **tokenizers)


@pytest.mark.parametrize("case", RECORD["cases"], ids=lambda case: case["prompt"][-30:])
def test_a_phrase_is_where_the_authors_find_it(text, case):
    prompt, word = case["prompt"], case["word"]
    spans = FAMILIES.load("stable_diffusion").read_spans(text, [prompt])[0]
    theirs = case["tara_xl" if "tokenizer_2" in text.names else "tara"]
    assert text.tokenizer.tokenize(prompt) == case["tokens"]
    if (prompt, word) in INSIDE:
        assert theirs == case["tokencompose"] != []
        with pytest.raises(PhraseNotFound):
            locate(spans, prompt, word)
    elif theirs:
        assert list(locate(spans, prompt, word)) == theirs
        assert case["tokencompose"] == theirs[: len(case["tokencompose"])]
    elif isinstance(case["tokencompose"], list):
        assert case["tokencompose"][-1] > 76
        with pytest.raises(PhraseCut):
            locate(spans, prompt, word)
    else:
        with pytest.raises(PhraseNotFound):
            locate(spans, prompt, word)
