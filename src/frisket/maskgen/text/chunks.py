"""Walks over a caption and closes a noun phrase wherever a function word stands."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from frisket.maskgen.text.words import (
    classify_word,
    head_of,
    is_descriptive,
    list_things,
    read_list,
    strip_count,
    to_singular,
)


class Chunk(NamedTuple):
    """A noun phrase as it was read; of the trigger alone the text is empty."""

    text: str
    trigger: bool = False  # the trigger stood in it
    setting: bool = False  # it says where


ReadChunks = Callable[[str, str], list[Chunk]]  # of a caption and the trigger, in order


def read_chunks(caption: str, trigger: str) -> list[Chunk]:
    """The noun phrases of a caption, in order, repeats and all."""
    text = _mark_trigger(caption, trigger)
    return _split_pieces(text) if _is_foreign(text) else _English().read(text)


# One character that is no letter and that no caption has, so that nothing else looks like it.
_TRIGGER, _BEHIND, _ABSENT = "\ue000", "\ue001", "\ue002"
_MARKS = {_TRIGGER: "trigger", _BEHIND: "behind", _ABSENT: "absent"}

_REWRITTEN = [
    (re.compile(pattern), to)
    for pattern, to in (
        (r"[\u2018\u2019`]", "'"),
        (r"<[^<>]*>|\\\([^()]*\\\)", " , "),  # <lora:name:1>, the \(series\) of a tag
        (r"\b(score|rating|source|embedding|artist)[_:]\w+", " , "),
        (r"_", " "),
        (r"\bbreak\b", ","),
        (r"\bin (the )?(\w+ )?style of [^,.;]*|\bstyle of [^,.;]*", ","),
        (r"\b(look|star|gaz|smil|fac|pos|wav)\w*( \w+ly| straight| back)?"
         r"( at| into| towards?| for)? (the |a )?(camera|viewer|lens)\b", ","),
        (r"\b(full|upper|lower|half)[- ]body( (shot|portrait|photo))?\b", ","),
        (r"\bdepth of field\b|\beach other\b", ","),
        (r"\b\d+[- ]years?[- ]old\b|\baged? \d+\b", " "),
        (r"\bclose[- ]ups?\b", "closeup"),
        (r"\bin front of\b|\bnext to\b|\bclose to\b", "near"),
        (r"\bon top of\b", "on"),
        (r"\bout of\b", "from"),
        (r"\bas well as\b|&|\+", " and "),
        (r"\bsuch as\b", "with"),
        (r"\bin the (\w+ )?(background|distance)\b", f" {_BEHIND} "),
        (r"\b(without|no)\b", _ABSENT),
        (r"'s\b", " 's"),
    )
]  # fmt: skip
_SENTENCES = re.compile(r"[.!?]+(?:\s+|$)|[\n\u3002\uff01\uff1f]")
_SEGMENTS = re.compile(
    r"[,;:|()\[\]{}\"/\u2013\u2014\u201c\u201d\uff0c\u3001\uff1b\uff1a\uff08\uff09]|\s-+\s"
)
_TOKENS = re.compile(rf"[^\W_][\w'-]*|'s\b|[{_TRIGGER}{_BEHIND}{_ABSENT}]")


def _mark_trigger(caption: str, trigger: str) -> str:
    text = caption.lower()
    if trigger.strip():
        word = re.escape(trigger.strip().lower())
        text = re.sub(rf"(?<!\w){word}(?!\w)", f" {_TRIGGER} ", text)
    return text


def _is_foreign(text: str) -> bool:
    """Whether a caption is in another script, or has more function words of another language."""
    letters = [letter for letter in text if letter.isalpha()]
    if sum(ord(letter) > 0x24F for letter in letters) * 3 > len(letters):
        return True
    words = _TOKENS.findall(text)
    english = (
        read_list("determiners") | read_list("links") | read_list("places_before") | {"and", "of"}
    )
    foreign_count = sum(word in read_list("foreign") for word in words)
    return foreign_count >= 2 and foreign_count > sum(word in english for word in words)


def _split_pieces(text: str) -> list[Chunk]:
    """What stands between punctuation, whole."""
    pieces = (piece for part in _SENTENCES.split(text) for piece in _SEGMENTS.split(part))
    return [
        Chunk(" ".join(piece.replace(_TRIGGER, " ").split()), trigger=_TRIGGER in piece)
        for piece in pieces
        if piece.strip()
    ]


def name_thing(words: Sequence[str]) -> str:
    """The words of a phrase up to its noun; nothing for praise and for media, light or mood."""
    phrase = list(words)
    while phrase and (is_descriptive(phrase[-1]) or phrase[-1] == "of"):
        phrase.pop()
    if phrase and phrase[0] in read_list("praise"):
        return ""
    text = " ".join(phrase)
    names = {head_of(text), to_singular(head_of(text))}
    worn = len(phrase) > 1 and names & list_things()  # a tank top is no top of the picture
    return "" if names & read_list("unseen") and not worn else text


@dataclass(slots=True)
class _English:
    """Walks over the words of a caption and closes a phrase wherever a function word stands."""

    chunks: list[tuple[int, Chunk]] = field(default_factory=list)  # with the number of its group
    words: list[str] = field(default_factory=list)  # of the phrase that is open
    group: int = 0  # phrases joined by "and" are one group
    trigger: bool = False  # the open phrase has the trigger
    determined: bool = False  # ... has an article, so that what follows belongs to a noun
    place: bool = False  # ... stands behind a preposition of place
    absent: bool = False  # ... is what is not there
    behind: bool = False  # the sentence is about the background

    def read(self, text: str) -> list[Chunk]:
        for pattern, to in _REWRITTEN:
            text = pattern.sub(to, text)
        for sentence in _SENTENCES.split(text):
            self.behind = False
            for segment in _SEGMENTS.split(sentence):
                self._segment([strip_count(word) for word in _TOKENS.findall(segment)])
        return [chunk for _, chunk in self.chunks]

    def _segment(self, words: list[str]) -> None:
        start = len(self.chunks)
        for word, after in zip(words, [*words, ""][1:], strict=True):
            noun_follows = bool(after) and classify_word(after) in {"content", "participle"}
            word_kind = _MARKS.get(word) or classify_word(word)
            if word_kind in {"participle", "verb"}:
                word_kind = self._classify_verb(word, noun_follows)
            if word_kind == "behind":
                self._mark_setting(start)
            elif word_kind != "adverb":
                self._take(word, word_kind, noun_follows)
        self._break()

    def _take(self, word: str, word_kind: str, noun_follows: bool) -> None:
        match word_kind:
            case "content":
                self.words.append(word)
            case "trigger":
                self.trigger = True
            case "determiner":
                self._open_phrase()
            case "owner":
                self._drop_owner()
            case "of":
                self._add_of(noun_follows)
            case "and":
                self._add_and(noun_follows)
            case _:
                self._break(place=word_kind == "where", absent=word_kind == "absent")

    def _classify_verb(self, word: str, noun_follows: bool) -> str:
        """Whether a verb form is an action or describes the noun after it."""
        if self._has_noun() or self.trigger:
            return "link"
        if self.words or self.determined:
            return "content"
        return "content" if noun_follows and word not in read_list("transitive") else "link"

    def _has_noun(self) -> bool:
        return any(not is_descriptive(word) for word in self.words)

    def _open_phrase(self) -> None:
        """Opens a phrase; the last word of one still open was its verb: "dog chases the ball"."""
        if self.words:
            verb = len(self.words) > 1 and to_singular(self.words[-1]) not in list_things()
            self.words = self.words[: -1 if verb else None]
            self._break()
        self.determined = True

    def _drop_owner(self) -> None:
        if self.trigger:
            self._close()
        self.words.clear()
        self.determined = True

    def _add_of(self, noun_follows: bool) -> None:
        head = self.words[-1] if self.words else ""
        if not head or head in read_list("measures") or to_singular(head) in read_list("unseen"):
            self.words.clear()
        elif noun_follows:
            self.words.append("of")
        else:
            self._break()

    def _add_and(self, noun_follows: bool) -> None:
        if self.words and not self._has_noun() and noun_follows:
            self.words.append("and")
        else:
            self._close()

    def _mark_setting(self, start: int) -> None:
        """Of "in the background": the group before it is meant, else what follows."""
        self._close()
        if len(self.chunks) == start:
            self.behind = True
            return
        last = self.chunks[-1][0]
        self.chunks = [
            (group, chunk._replace(setting=group == last or chunk.setting))
            for group, chunk in self.chunks
        ]

    def _break(self, *, place: bool = False, absent: bool = False) -> None:
        self._close()
        self.group += 1
        self.place, self.absent = place, absent

    def _close(self) -> None:
        text = name_thing(self.words)
        if self.trigger:
            self.chunks.append((self.group, Chunk(text, trigger=True)))
        elif text in {"background", "backdrop"}:
            self.behind = True
        elif text and not self.absent:
            key = to_singular(head_of(text))
            is_place = key in read_list("places") or (self.place and key not in list_things())
            self.chunks.append((self.group, Chunk(text, setting=is_place or self.behind)))
        self.words.clear()
        self.trigger = self.determined = False
