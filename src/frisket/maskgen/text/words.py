"""The word lists behind phrases and rules, and plurals."""

import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any


@cache
def read_packaged(name: str) -> str:
    """The text of a file that ships beside this one."""
    return (resources.files("frisket.maskgen.text") / name).read_text(encoding="utf-8")


@cache
def _read_tables(name: str) -> dict[str, Any]:
    return tomllib.loads(read_packaged(name))


@cache
def read_list(name: str) -> frozenset[str]:
    """One list of `words.toml`."""
    return frozenset(_read_tables("words.toml")[name].split())


@cache
def list_things() -> frozenset[str]:
    """Singular nouns that the default rules give to a region: worn, held or grown."""
    rules = _read_tables("rules.toml")["rule"]
    return frozenset(
        word
        for rule in rules
        if rule["region"] != "background"
        for word in rule["match"]
        if " " not in word and "*" not in word
    )


@cache
def to_singular(word: str) -> str:
    """The singular of an English noun, lower case: "women" is "woman", "dresses" is "dress".

    Nouns without a singular ("jeans", "glasses") stay. The rules are those of spelling, with a
    table for what they miss, so a rare word may come out wrong, but always the same way.
    """
    irregular: dict[str, str] = _read_tables("words.toml")["irregular"]
    stem, hyphen, last = word.rpartition("-")
    if word in read_list("plurale_tantum"):
        return word
    if last in irregular:
        return f"{stem}{hyphen}{irregular[last]}"
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if word.endswith(("ches", "shes", "xes", "sses", "zzes", "oes")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word


def head_of(text: str) -> str:
    """The noun a phrase is about: "jacket" of "red jacket", "cup" of "cup of coffee"."""
    return text.partition(" of ")[0].rpartition(" ")[2]


def strip_count(word: str) -> str:
    """The noun of a tag that begins with a count: "girl" of "1girl"; other words as they are."""
    match = _COUNTED_NOUN.fullmatch(word)
    return match[1] if match and to_singular(match[1]) in list_things() else word


@cache
def classify_word(word: str) -> str:
    """What a word does in a phrase.

    One of content, determiner, owner, of, and, where (a preposition of place), link, adverb (left
    out), verb (a noun, too) and participle (an action, or what something is like).
    """
    if word in {"of", "and", "or", "'s"}:
        return {"of": "of", "'s": "owner"}.get(word, "and")
    for name, word_kind in _KINDS.items():
        if word in read_list(name) or (
            name.startswith("verbs") and _strip_verb_ending(word) in read_list(name)
        ):
            return word_kind
    if word[0].isdigit() or (
        word.endswith("ly") and to_singular(word) not in read_list("not_adverbs")
    ):
        return "adverb"
    return "participle" if _FORMED.fullmatch(word) else "content"


def is_descriptive(word: str) -> bool:
    """Whether a word says what something is like, and so is nothing by itself."""
    if word in read_list("nouns"):
        return False
    is_known = word in read_list("adjectives") or word == "and"
    return bool(is_known or _FORMED.fullmatch(word) or _LIKE.fullmatch(word))


# In this order: the first list with the word decides.
_KINDS = {
    "determiners": "determiner",
    "places_before": "where",
    "links": "link",
    "pronouns": "link",
    "irregular_verbs": "link",
    "adverbs": "adverb",
    "adjectives": "content",
    "nouns": "content",
    "verbs": "link",
    "verbs_after": "verb",
}
_COUNTED_NOUN = re.compile(r"\d+\+?([a-z]{3,})")
_FORMED = re.compile(r"[\w-]{2,}(ing|ed)")
_LIKE = re.compile(r"\w{3,}(less|ful|ous|ish|-colou?red)")


def _strip_verb_ending(word: str) -> str:
    """The base form of a verb in -s: "holds" is "hold", "carries" is "carry"."""
    return to_singular(word) if word.endswith("s") else ""
