"""Every family says which token of its conditioning a word of the prompt is."""

from dataclasses import dataclass
from typing import Any

import pytest
from tests.contracts.conftest import Case
from tests.families.word_tokens import apart, changed, length_of, with_words
from torch import nn

from frisket.attention.tokens import PhraseCut, PhraseNotFound, Spans, locate
from frisket.families.base import Source

FOX, HUB = "a red fox on a stone wall", "a red hub on a stone wall"
PROMPTS = (FOX, HUB, "two boats", "")


@dataclass(frozen=True)
class Read:
    """Prompts as a text encoder reads them in which no token sees another, and their spans."""

    spans: list[Spans]
    conditioning: Any


@pytest.fixture(scope="session")
def reads(case: Case) -> dict[str, Read]:
    """By the family's tokenizer of bytes, and by one that knows words."""
    alone = apart(case.parts.text)
    pictures = [case.references(0)] * len(PROMPTS)
    texts = {"bytes": alone, "words": with_words(alone)}
    return {
        name: Read(
            case.family.read_spans(text, PROMPTS, pictures),
            case.family.embed(text, PROMPTS, pictures),
        )
        for name, text in texts.items()
    }


@pytest.fixture(params=["bytes", "words"])
def read(reads, request) -> Read:
    return reads[request.param]


def test_a_word_is_where_changing_it_changes_the_embedding(read):
    positions = locate(read.spans[0], FOX, "fox")
    assert positions == locate(read.spans[1], HUB, "hub")
    assert positions == changed(read.conditioning)


def test_there_is_a_span_for_every_position_of_the_text(read):
    lengths = [length_of(read.conditioning, row) for row in range(len(PROMPTS))]
    assert [len(row) for row in read.spans] == lengths


def test_every_letter_of_the_prompt_has_a_position(read):
    for prompt, spans in zip(PROMPTS, read.spans, strict=True):
        held = {index for span in spans if span is not None for index in range(*span)}
        assert {index for index, letter in enumerate(prompt) if letter.isalpha()} <= held
        assert all(0 <= index < len(prompt) for index in held)


def test_phrases_are_found_apart_and_whole_or_not_at_all(read):
    fox, wall = (locate(read.spans[0], FOX, phrase) for phrase in ("red fox", "stone wall"))
    assert not set(fox) & set(wall)
    with pytest.raises(PhraseNotFound, match="nearest in it is 'fox'"):
        locate(read.spans[0], FOX, "fo")


def test_tokenizers_are_read_without_an_encoder(case, reads, tmp_path):
    for name in getattr(case.parts.text, "names", ()):
        part = getattr(case.parts.text, name)
        if not isinstance(part, nn.Module):
            part.save_pretrained(tmp_path / name)
    tokenizer = case.family.load_tokenizer(Source(case.variant, path=str(tmp_path)))
    pictures = [case.references(0)] * len(PROMPTS)
    assert case.family.read_spans(tokenizer, PROMPTS, pictures) == reads["bytes"].spans


def test_a_word_beyond_the_cut_is_refused(case):
    prompt = "a fox " + "by a lake " * 130 + "and a wall"
    spans = case.family.read_spans(case.parts.text, [prompt], [case.references(0)])[0]
    ends = [span[1] for span in spans if span is not None]
    if max(ends) == len(prompt):  # read whole, however long; or, of the pocket family, its end
        assert locate(spans, prompt, "wall")
        return
    with pytest.raises(PhraseCut, match="'wall' is cut off"):
        locate(spans, prompt, "wall")
    assert locate(spans, prompt, "fox")
