"""Captions to noun phrases: tables judged by reading, and what holds for any caption."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frisket.maskgen.text.phrases import (
    BadPhrases,
    Phrase,
    find_noun_phrases,
    parse_phrases,
    survey_captions,
)

TABLES = tomllib.loads(Path(__file__).with_name("captions.toml").read_text(encoding="utf-8"))


def written(caption: str, trigger: str, class_word: str) -> str:
    """The phrases in the form of the tables."""
    found = find_noun_phrases(caption, trigger, class_word)
    return " | ".join(p.text + "*" * p.is_subject + "~" * p.setting for p in found)


@pytest.mark.parametrize(("caption", "trigger", "class_word", "phrases"), TABLES["development"])
def test_captions_of_the_development_table(
    caption: str, trigger: str, class_word: str, phrases: str
) -> None:
    assert written(caption, trigger, class_word) == phrases


def test_captions_that_were_never_tuned_on() -> None:
    """29 of 34 were exact at first sight; 33 since some faults of English were mended."""
    exact = sum(written(*row[:3]) == row[3] for row in TABLES["held_out"])
    assert exact >= 33


def test_a_bare_trigger_takes_the_class_word_or_is_told() -> None:
    assert find_noun_phrases("sks, red hat", "sks", "dog")[0] == Phrase("dog", is_subject=True)
    (person,) = find_noun_phrases("SKS.", "sks")
    assert person.text == "person"
    assert "trigger stands alone" in person.note
    assert find_noun_phrases("sks man smiling", "sks man")[0] == Phrase("man", is_subject=True)


def test_the_class_word_is_the_subject_where_no_trigger_stands() -> None:
    found = find_noun_phrases("a red hat on two cats", "sks", "cat")
    assert found == [Phrase("red hat"), Phrase("cats", is_subject=True)]


def test_what_is_absent_is_no_phrase() -> None:
    assert find_noun_phrases("a man without a hat, no glasses, red tie") == [
        Phrase("man"),
        Phrase("red tie"),
    ]


def test_more_than_the_limit_drops_settings_first_and_says_so() -> None:
    tags = "hat, beach, shirt, tie, belt, glove, sock, shoe, scarf, ring"
    found = find_noun_phrases(tags)
    assert [phrase.text for phrase in found] == [
        "hat", "shirt", "tie", "belt", "glove", "sock", "shoe", "scarf",
    ]  # fmt: skip
    assert found[-1].note == "more than 8 phrases; left out: beach, ring"
    assert len(find_noun_phrases(tags, limit=3)) == 3


@given(st.text(max_size=80), st.sampled_from(["", "sks", "a (b", "[x]"]))
def test_any_text_gives_distinct_lower_case_phrases_within_the_limit(
    text: str, trigger: str
) -> None:
    found = find_noun_phrases(text, trigger)
    texts = [phrase.text for phrase in found]
    assert len(set(texts)) == len(texts) <= 8
    assert all(text and text == text.strip() == text.lower() for text in texts)
    assert all(phrase.head and phrase.key for phrase in found)
    assert not any(phrase.is_subject and phrase.setting for phrase in found)


NOUNS = st.sampled_from(["hat", "dress", "beard", "man", "shoe", "church", "leaf", "box", "hoodie"])


@given(NOUNS, st.sampled_from(["", "red ", "very old ", "beautiful long "]))
def test_article_count_and_number_change_no_key(noun: str, like: str) -> None:
    plural = {"man": "men", "leaf": "leaves", "church": "churches", "box": "boxes"}
    many = plural.get(noun, f"{noun}es" if noun == "dress" else f"{noun}s")
    forms = (f"a {like}{noun}", f"the {like}{noun}", f"three {like}{many}", f"{like}{many}")
    assert {find_noun_phrases(form)[0].key for form in forms} == {noun}


def test_phrases_by_hand() -> None:
    assert parse_phrases("Face; hair;  red   jacket") == [
        Phrase("face"),
        Phrase("hair"),
        Phrase("red jacket"),
    ]
    assert parse_phrases("face = head, face; hair, hat = cap") == [
        Phrase("head", region="face"),
        Phrase("face", region="face"),
        Phrase("hair"),
        Phrase("cap", region="hat"),
    ]


@pytest.mark.parametrize("text", ["", " ; , ", "face=", "=head", "face = ; hair"])
def test_phrases_by_hand_that_name_nothing(text: str) -> None:
    with pytest.raises(BadPhrases):
        parse_phrases(text)


def test_a_data_set_counts_each_head_noun_once_a_caption() -> None:
    captions = [
        ("1", "a young woman in a red hat on a beach"),
        ("2", "two women in blue hats"),
        ("3", "the woman, the other woman"),
        ("4", "a wide beach"),
        ("5", ""),
    ]
    survey = survey_captions(captions)
    assert survey.captions == 5
    found = {it.phrase.text: (it.captions, it.clips) for it in survey.concepts}
    assert found == {
        "woman": (3, ("1", "2", "3")),
        "hat": (2, ("1", "2")),
        "beach": (2, ("1", "4")),
    }
    assert survey.concepts[0].written == {"young woman": 1, "women": 1, "woman": 1}
    assert [it.setting for it in survey.phrases] == [False, False, True]


def test_a_data_set_knows_its_subject_and_counts_its_notes() -> None:
    captions = [(str(n), f"sks, holding a kite {'in the sky' * (n % 2)}") for n in range(20)]
    survey = survey_captions(captions, "sks", examples=2)
    assert survey.concepts[0].phrase == Phrase("person", is_subject=True)
    assert survey.concepts[0].clips == ("0", "1")
    assert survey.notes == (
        "the trigger stands alone and is taken for a person (20 of 20 captions)",
    )
