"""The noun phrases of a caption by the parse of a spaCy pipeline that is installed."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from frisket.maskgen.base import BackendUnusable
from frisket.maskgen.text.chunks import Chunk, ReadChunks, name_thing
from frisket.maskgen.text.words import head_of, list_things, read_list, to_singular

_Token = Any  # spacy.tokens.Token

EXTRA = "pip install 'frisket[spacy]'"
SPARED = ("ner", "lemmatizer", "textcat")  # parts of a pipeline that noun phrases do without
BACKGROUND = frozenset({"background", "backdrop", "distance"})


def load_reader(name: str) -> ReadChunks:
    """What reads captions by the spaCy pipeline `name`, such as en_core_web_sm, in its language.

    `name` is an installed package and never a folder: a pipeline is code, as any package is, and
    nothing that a stranger's file may name. BackendUnusable where it, spaCy or a parser is missing.
    """
    try:
        spacy = import_module("spacy")
    except ImportError as error:
        raise BackendUnusable(
            f"spaCy, which is to read captions with {name!r}, is not installed ({error}); {EXTRA}"
        ) from error
    if not spacy.util.is_package(name):
        raise BackendUnusable(
            f"{name!r} is no spaCy pipeline that is installed; get it with"
            f" `python -m spacy download {name}`, or let the word lists read the captions"
        )
    try:
        pipeline = spacy.load(name, exclude=list(SPARED))
    except Exception as error:  # what a package of somebody else raises
        raise BackendUnusable(f"the spaCy pipeline {name!r} does not load: {error}") from error
    return reader_of(pipeline, name)


def reader_of(pipeline: Any, name: str) -> ReadChunks:
    """What reads captions by a loaded pipeline; BackendUnusable for one that finds no phrases."""
    finds = pipeline.Defaults.syntax_iterators.get("noun_chunks")
    if finds is None or not pipeline("a red hat").has_annotation("DEP"):
        raise BackendUnusable(
            f"the spaCy pipeline {name!r} finds no noun phrases: it has no parser, or its language"
            " has no rule for them; take one that has, such as en_core_web_sm"
        )

    def read(caption: str, trigger: str) -> list[Chunk]:
        return _read(pipeline, caption, trigger)

    return read


@dataclass(frozen=True, slots=True)
class _ParsedPhrase:
    root: _Token
    chunk: Chunk
    absent: bool = False  # the caption says that it is not there


_DROPPED = re.compile(r"<[^<>]*>|\\\([^()]*\\\)")  # <lora:name:1>, the \(series\) of a tag
_UNNAMED = frozenset({"DET", "PRON", "NUM", "PART"})
_MARKS = "\"'.,;:!?()[]{}|/*-\u201c\u201d"


def _read(pipeline: Any, caption: str, trigger: str) -> list[Chunk]:
    text = " ".join(_DROPPED.sub(" , ", caption).replace("_", " ").split())
    if not text:
        return []
    doc = pipeline(text)
    places = _find_trigger(text, trigger)
    triggers = _find_trigger_tokens(doc, places)
    english = pipeline.lang == "en"
    phrases: list[_ParsedPhrase] = []
    for span in doc.noun_chunks:
        *owners, thing = _split_owners(span)
        phrases += [
            _make_phrase(it, triggers, english=english) for it in owners if triggers & it.keys()
        ]
        phrases.append(_make_phrase(thing, triggers, english=english))
    phrases = _mark_background(_join_of(phrases) if english else phrases)
    chunks = [phrase.chunk for phrase in phrases if not phrase.absent]
    if places and not any(chunk.trigger for chunk in chunks):
        chunks.insert(0, Chunk("", trigger=True))  # the parse made it no noun
    return [chunk for chunk in chunks if chunk.text or chunk.trigger]


def _find_trigger(text: str, trigger: str) -> list[tuple[int, int]]:
    """First and last character, exclusive, of the trigger wherever it stands alone."""
    word = re.escape(" ".join(trigger.split()))
    if not word:
        return []
    return [match.span() for match in re.finditer(rf"(?<!\w){word}(?!\w)", text, re.IGNORECASE)]


def _find_trigger_tokens(doc: Any, places: Sequence[tuple[int, int]]) -> set[int]:
    """Numbers of the tokens that share a character with one of `places`."""
    return {
        token.i
        for token in doc
        if any(token.idx < end and token.idx + len(token) > start for start, end in places)
    }


def _split_owners(span: Any) -> list[dict[int, _Token]]:
    """Tokens by number: those of owners ("a woman's" of "a woman's hair"), then what is theirs."""
    parts: list[dict[int, _Token]] = [{}]
    for token in span:
        parts[-1][token.i] = token
        if token.dep_ == "poss" and token.pos_ in {"NOUN", "PROPN"}:
            parts.append({})
    return [part for part in parts if part]


def _make_phrase(
    tokens: Mapping[int, _Token], triggers: Collection[int], *, english: bool
) -> _ParsedPhrase:
    *_, root = tokens.values()
    texts = [
        token.text_with_ws.lower()
        for number, token in tokens.items()
        if number not in triggers and token.pos_ not in _UNNAMED and token.dep_ != "case"
    ]
    words = [word for part in "".join(texts).split() if (word := part.strip(_MARKS))]
    text = name_thing(words) if english else " ".join(words)
    is_subject = any(number in triggers for number in tokens)
    preposition = _find_preposition(root)
    key = to_singular(head_of(text))
    setting = key in read_list("places") or (
        preposition in read_list("places_before") and key not in list_things()
    )
    absent = preposition == "without" or any(child.lower_ == "no" for child in root.children)
    return _ParsedPhrase(root, Chunk(text, is_subject, setting and not is_subject), absent)


def _find_preposition(root: _Token) -> str:
    """What a phrase stands behind, or the first of those that "and" joins it to."""
    first = _find_first(root)
    if first.head.pos_ == "ADP":
        return str(first.head.lower_)
    return next((str(child.lower_) for child in first.children if child.dep_ == "case"), "")


def _find_first(root: _Token) -> _Token:
    while root.dep_ == "conj" and root.head != root:
        root = root.head
    return root


def _join_of(phrases: Sequence[_ParsedPhrase]) -> list[_ParsedPhrase]:
    """One phrase of "a cup" and "coffee" in "a cup of coffee"; in "a pair of boots" the boots."""
    joined: list[_ParsedPhrase] = []
    for phrase in phrases:
        last, of = joined[-1] if joined else None, phrase.root.head
        if last is None or of.lower_ != "of" or of.head != last.root or not phrase.chunk.text:
            joined.append(phrase)
        elif last.chunk.text and head_of(last.chunk.text) not in read_list("measures"):
            text = f"{last.chunk.text} of {phrase.chunk.text}"
            joined[-1] = replace(last, chunk=last.chunk._replace(text=text))
        else:
            joined[-1] = replace(phrase, absent=last.absent or phrase.absent)
    return joined


def _mark_background(phrases: Sequence[_ParsedPhrase]) -> list[_ParsedPhrase]:
    """Settings: X of "X in the background", and what "the background" as a subject shows."""
    settings: set[int] = set()
    bare = [it for it in phrases if it.chunk.text in ("", it.root.lower_)]
    backgrounds = [it.root for it in bare if it.root.lower_ in BACKGROUND]
    for root in backgrounds:
        if root.dep_.startswith("nsubj"):
            settings |= {it.root.i for it in phrases if it.root.sent == root.sent}
            continue
        firsts = _find_subjects(root)
        settings |= {it.root.i for it in phrases if _find_first(it.root).i in firsts}
    return [
        replace(it, chunk=it.chunk._replace(setting=it.chunk.setting or it.root.i in settings))
        if not it.chunk.trigger
        else it
        for it in phrases
        if it.root not in backgrounds
    ]


def _find_subjects(background: _Token) -> set[int]:
    """Numbers of what "X in the background" puts there: the subjects of its verb, else X."""
    head = background.head
    near = head.head if head.pos_ == "ADP" else head
    subjects = [child for child in near.children if child.dep_.startswith("nsubj")]
    return {_find_first(token).i for token in (subjects or [near])}
