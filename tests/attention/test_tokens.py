"""Phrases found by the characters that a token stands for, whatever made the tokens."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frisket.attention.base import mark_phrases
from frisket.attention.tokens import (
    PhraseCut,
    PhraseNotFound,
    PhrasesNotRead,
    find_occurrences,
    locate,
    locate_all,
    locate_present,
)


def split_words(prompt, *, size=4, begin=1, limit=None):
    """Spans of words in pieces of `size` characters, between specials, cut at `limit` pieces."""
    pieces = [
        (start, min(start + size, word.end()))
        for word in re.finditer(r"\S+", prompt)
        for start in range(word.start(), word.end(), size)
    ]
    return [*[None] * begin, *pieces[:limit], None]


def find(prompt, phrase, **options):
    return locate(split_words(prompt, **options), prompt, phrase)


def test_a_phrase_takes_every_piece_of_its_words():
    assert find("a photo of sks person", "sks") == (5,)
    assert find("a wonderful fox", "wonderful fox") == (2, 3, 4, 5)


def test_all_occurrences_count():
    assert find("fox and fox and Fox", "fox") == (1, 3, 5)
    assert find("aa aa aa", "aa aa") == (1, 2, 3)


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [
        ("a red  fox", "red fox"),
        ("a red\nfox", "red fox"),
        ("a Red Fox", "rED fOX"),
        ("a red fox.", " red fox "),
        ("(red fox:1.2)", "red fox"),
        ("red fox's den", "red fox"),
        ("a cafe\u0301", "caf\u00e9"),
        ("a caf\u00e9", "cafe\u0301"),
        ("die stra\u00dfe", "STRASSE"),
        ("\u4e00\u53ea\u7ea2\u72d0\u72f8\u5750\u7740", "\u72d0\u72f8"),
        ("\u8d64\u3044\u30ad\u30c4\u30cd\u304c\u5ea7\u308b", "\u30ad\u30c4\u30cd"),
        ("\uc5ec\uc6b0\uac00 \uc549\uc544", "\uc5ec\uc6b0"),
        ("\U0001f98a on a wall", "\U0001f98a"),
    ],
)
def test_what_counts_as_the_phrase(prompt, phrase):
    assert len(find_occurrences(prompt, phrase)) == 1
    assert find(prompt, phrase)


@pytest.mark.parametrize(
    ("prompt", "phrase"),
    [("a dogfox", "fox"), ("foxes", "fox"), ("_fox", "fox"), ("cafe\u0301", "cafe"), ("ss", "s")],
)
def test_a_phrase_is_whole_words(prompt, phrase):
    with pytest.raises(PhraseNotFound, match=re.escape(repr(phrase))):
        find(prompt, phrase)


def test_a_phrase_that_is_missing_is_told_its_nearest_word():
    with pytest.raises(PhraseNotFound, match="nearest in it is 'sks person'"):
        find("photo of sks person, outdoors", "sks persn")
    with pytest.raises(PhraseNotFound, match=r"not in the prompt 'a fox'\. Write"):
        find("a fox", "zebra")


def test_a_phrase_of_nothing_is_refused():
    with pytest.raises(ValueError, match="empty"):
        find("a fox", "  ")


def test_a_phrase_that_is_cut_off_says_where():
    prompt = "one two three four fox"
    with pytest.raises(PhraseCut, match=r"'fox' is cut off.*reads 3 tokens.*0 to 12.*character 19"):
        find(prompt, "fox", limit=3)
    with pytest.raises(PhraseCut, match="'three'"):  # of which a part is read
        find(prompt, "three", limit=3)
    with pytest.raises(PhraseCut, match="no token"):
        find(prompt, "fox", limit=0)


def test_an_occurrence_that_is_cut_is_left_out_where_another_is_whole():
    assert find("a red fox by a red fox", "red fox", limit=6) == (2, 3)


def test_a_token_that_holds_more_than_the_phrase_counts():
    prompt = "\u4e00\u53ea\u72d0\u72f8"
    assert locate([(0, 2), (2, 4)], prompt, "\u72d0") == (1,)


def test_every_failure_of_many_captions_is_in_one_error():
    captions = ["a fox", "a dog", "one two three a fox", *["none"] * 5]
    names = [f"{number}.jpg" for number in range(8)]
    spans = [split_words(caption, limit=4) for caption in captions]
    with pytest.raises(PhrasesNotRead) as caught:
        locate_all(spans, captions, ["fox"], names=names)
    assert [name for name, _ in caught.value.failures] == [f"{n}.jpg" for n in range(1, 8)]
    assert isinstance(dict(caught.value.failures)["2.jpg"], PhraseCut)
    text = str(caught.value)
    assert "7 of 8" in text
    assert "5.jpg" in text
    assert "6.jpg" not in text
    assert "and 2 more" in text


def test_captions_that_have_all_phrases_are_located_row_by_row():
    captions = ["a fox by a wall", "the wall, a fox"]
    rows = locate_all([split_words(each) for each in captions], captions, ["fox", "wall"])
    assert rows == [[(2,), (5,)], [(5,), (2,)]]


def test_a_phrase_that_may_be_missing_has_no_position_there():
    prompts = ["a sks fox", "", "one two three a sks"]
    spans = [split_words(prompt) for prompt in prompts]
    rows = locate_present(spans, prompts, "sks")
    assert rows == [[(2,)], [()], [(6,)]]
    mask = mark_phrases(rows, 8)[:, 0]
    assert mask.sum(1).tolist() == [1, 0, 1]
    spans[2] = split_words(prompts[2], limit=3)
    with pytest.raises(PhraseCut):
        locate_present(spans, prompts, "sks")


WILD = ("fox", "dog", "hen", "owl", "cat", "elk", "bee", "ant")
WORDS = st.lists(
    st.text(st.characters(categories=["L", "N"], exclude_characters="_"), min_size=1, max_size=9),
    min_size=1,
    max_size=8,
)


@given(WORDS, st.data(), st.integers(1, 5))
def test_the_tokens_of_a_phrase_cover_its_characters(words, data, size):
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    prompt, phrase = " ".join(words), " ".join(words[first : last + 1])
    spans = split_words(prompt, size=size)
    start = len(" ".join(words[:first])) + bool(first)
    held = {
        index for position in locate(spans, prompt, phrase) for index in range(*spans[position])
    }
    own = {i for i in range(start, start + len(phrase)) if not prompt[i].isspace()}
    assert own <= held


@given(
    st.lists(st.sampled_from(WILD), min_size=2, unique=True),
    st.data(),
    st.integers(1, 5),
)
def test_phrases_that_share_no_character_share_no_position(words, data, size):
    middle = data.draw(st.integers(1, len(words) - 1))
    prompt = " ".join(words)
    spans = split_words(prompt, size=size)
    before = locate(spans, prompt, " ".join(words[:middle]))
    after = locate(spans, prompt, " ".join(words[middle:]))
    assert not set(before) & set(after)
    assert set(before) | set(after) == {i for i, span in enumerate(spans) if span is not None}
