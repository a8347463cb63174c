"""Every family says which token of its conditioning a word of the prompt is."""

import pytest
from tests.contracts.conftest import PROMPTS
from tests.families.word_tokens import apart, changed, length_of, with_words

from frisket.attention.tokens import PhraseCut, PhraseNotFound, locate

PAIR = ("a red fox on a stone wall", "a red hub on a stone wall")


@pytest.fixture(params=["bytes", "words"])
def text(case, request):
    """The family's tokenizer of bytes, and one that knows words; no token sees another."""
    alone = apart(case.parts.text)
    return with_words(alone) if request.param == "words" else alone


def references(case, count):
    return [case.references(index) for index in range(count)]


def test_a_word_is_where_changing_it_changes_the_embedding(case, text):
    pictures = [case.references(0)] * 2
    rows = case.family.spans(text, PAIR, pictures)
    positions = locate(rows[0], PAIR[0], "fox")
    assert positions == locate(rows[1], PAIR[1], "hub")
    assert positions == changed(case.family.embed(text, PAIR, pictures))


def test_there_is_a_span_for_every_position_of_the_text(case, text):
    pictures = references(case, len(PROMPTS))
    conditioning = case.family.embed(text, PROMPTS, pictures)
    rows = case.family.spans(text, PROMPTS, pictures)
    lengths = [length_of(conditioning, row) for row in range(len(PROMPTS))]
    assert [len(row) for row in rows] == lengths


def test_every_letter_of_the_prompt_has_a_position(case, text):
    rows = case.family.spans(text, PROMPTS, references(case, 3))
    for prompt, spans in zip(PROMPTS, rows, strict=True):
        held = {index for span in spans if span is not None for index in range(*span)}
        assert {index for index, letter in enumerate(prompt) if letter.isalpha()} <= held
        assert all(0 <= index < len(prompt) for index in held)


def test_phrases_are_found_apart_whole_or_not_at_all(case, text):
    spans = case.family.spans(text, PROMPTS[:1], references(case, 1))[0]
    fox, wall = (locate(spans, PROMPTS[0], phrase) for phrase in ("red fox", "stone wall"))
    assert not set(fox) & set(wall)
    with pytest.raises(PhraseNotFound, match="nearest in it is 'fox'"):
        locate(spans, PROMPTS[0], "fo")


def test_a_word_beyond_the_cut_is_refused(case):
    prompt = "a fox " + "by a lake " * 130 + "and a wall"
    spans = case.family.spans(case.parts.text, [prompt], references(case, 1))[0]
    ends = [span[1] for span in spans if span is not None]
    if max(ends) == len(prompt):  # read whole, however long: the last word of each phrase is
        assert locate(spans, prompt, "wall")
        return
    with pytest.raises(PhraseCut, match="'wall' is cut off"):
        locate(spans, prompt, "wall")
    assert locate(spans, prompt, "fox")
