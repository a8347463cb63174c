"""Captions to the noun phrases in them, by small word lists and no language model."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from frisket.maskgen.words import describes, kind, listed, singular, things, uncounted

LIMIT = 8  # phrases of one caption: each costs a model run where phrases are asked one by one
PERSON = "person"  # what a bare trigger is taken for


class BadPhrases(ValueError):
    """Phrases written by hand that name nothing."""


@dataclass(frozen=True, slots=True)
class Phrase:
    """Something a caption names, lower case, without article and count."""

    text: str
    is_subject: bool = False  # what is trained: it stood with the trigger, or is the class word
    setting: bool = False  # where it was: behind a preposition of place, or the name of one
    note: str = ""  # what the user should be told about it
    region: str = ""  # named by hand; rules are not asked

    @property
    def head(self) -> str:
        """The noun it is about: "jacket" of "red jacket", "cup" of "cup of coffee"."""
        return self.text.partition(" of ")[0].rpartition(" ")[2]

    @property
    def key(self) -> str:
        """The head in the singular, which counts "women" and "a young woman" as one."""
        return singular(self.head)


def noun_phrases(
    caption: str, trigger: str = "", class_word: str = "", *, limit: int = LIMIT
) -> list[Phrase]:
    """The phrases of a caption (sentences or a list of tags), in its order, each once.

    Left out are media and style ("photo of", "best quality"), light, time, mood, actions, what is
    said to be absent, articles, counts and the owner in "a woman's hair". The trigger and the noun
    beside it are one subject, named by the noun; a bare trigger is named by `class_word`, else
    "person", with a note. Without a trigger the first noun that is the class word is the subject.
    Captions in other languages are split at their punctuation and kept whole. Of more than `limit`
    phrases settings go first, then the last ones, and the last that is kept says so in its note.
    """
    text = _marked(caption, trigger)
    bare = class_word or (trigger.rsplit(maxsplit=1)[-1] if " " in trigger.strip() else "")
    reader = _Foreign(bare.lower()) if _is_foreign(text) else _English(bare.lower())
    found = _each_once(reader.read(text))
    if class_word and not any(phrase.is_subject for phrase in found):
        found = _with_subject(found, singular(class_word.lower()))
    return _limited(found, limit)


def parse_phrases(text: str) -> list[Phrase]:
    """Phrases written by hand: "face; hair; red jacket", or "face = head, face; hair".

    Commas and semicolons part them. `region = phrase` gives a phrase and those after it, up to the
    next semicolon or `=`, to that region. BadPhrases where nothing is named.
    """
    found: list[Phrase] = []
    for group in text.split(";"):
        region = ""
        for part in group.split(","):
            named, equals, phrase = (piece.strip().lower() for piece in part.rpartition("="))
            if equals and not (named and phrase):
                raise BadPhrases(f"{part.strip()!r} needs a name on both sides, as in face=head")
            region = named or region
            if phrase:
                found.append(Phrase(" ".join(phrase.split()), region=region))
    if not found:
        raise BadPhrases(f"no phrase in {text!r}; write some, as in --phrases 'face; red jacket'")
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Concept:
    """What several captions name, under one head noun."""

    phrase: Phrase  # as it is written everywhere, else the head noun alone
    captions: int  # that name it
    clips: tuple[str, ...]  # the first few of them
    written: Mapping[str, int]  # every way it is written to the captions that do


@dataclass(frozen=True, slots=True)
class Survey:
    """The concepts of a data set, those in most captions first, and what should be told."""

    concepts: tuple[Concept, ...]
    captions: int
    notes: tuple[str, ...] = ()

    @property
    def phrases(self) -> list[Phrase]:
        """One phrase a concept."""
        return [concept.phrase for concept in self.concepts]


def over(
    captions: Iterable[tuple[str, str]],
    trigger: str = "",
    class_word: str = "",
    *,
    limit: int = LIMIT,
    examples: int = 3,
) -> Survey:
    """What (clip, caption) pairs name, each head noun once: "women" and "a young woman" are one.

    A concept is the subject if it is so in any caption, and a setting if it is so in all. What is
    kept grows with the vocabulary, not with the number of captions.
    """
    tallies: dict[str, _Tally] = {}
    notes: Counter[str] = Counter()
    seen = 0
    for clip, caption in captions:
        seen += 1
        once: dict[str, list[Phrase]] = {}
        for phrase in noun_phrases(caption, trigger, class_word, limit=limit):
            once.setdefault(phrase.key, []).append(phrase)
            if phrase.note:
                notes[phrase.note.partition(";")[0]] += 1
        for key, phrases in once.items():
            tallies.setdefault(key, _Tally(key)).add(clip, phrases, examples)
    ranked = sorted(tallies.values(), key=lambda tally: -tally.captions)
    told = tuple(f"{note} ({count} of {seen} captions)" for note, count in notes.most_common())
    return Survey(tuple(tally.concept() for tally in ranked), seen, told)


@dataclass(slots=True)
class _Tally:
    key: str
    captions: int = 0
    clips: list[str] = field(default_factory=list)
    written: Counter[str] = field(default_factory=Counter)
    is_subject: bool = False
    setting: bool = True

    def add(self, clip: str, phrases: Sequence[Phrase], examples: int) -> None:
        self.captions += 1
        self.clips += [clip] if len(self.clips) < examples else []
        self.written.update(phrase.text for phrase in phrases)
        self.is_subject |= any(phrase.is_subject for phrase in phrases)
        self.setting &= all(phrase.setting for phrase in phrases)

    def concept(self) -> Concept:
        text = next(iter(self.written)) if len(self.written) == 1 else self.key
        phrase = Phrase(text, self.is_subject, self.setting and not self.is_subject)
        return Concept(phrase, self.captions, tuple(self.clips), dict(self.written.most_common()))


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


def _marked(caption: str, trigger: str) -> str:
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
    english = listed("determiners") | listed("links") | listed("places_before") | {"and", "of"}
    strange = sum(word in listed("foreign") for word in words)
    return strange >= 2 and strange > sum(word in english for word in words)


def _each_once(found: Sequence[Phrase]) -> list[Phrase]:
    once: dict[str, Phrase] = {}
    for phrase in found:
        earlier = once.get(phrase.text, phrase)
        once[phrase.text] = replace(
            earlier,
            is_subject=earlier.is_subject or phrase.is_subject,
            setting=earlier.setting and phrase.setting,
            note=earlier.note or phrase.note,
        )
    return list(once.values())


def _with_subject(found: list[Phrase], key: str) -> list[Phrase]:
    first = next((at for at, phrase in enumerate(found) if phrase.key == key), None)
    return [
        replace(phrase, is_subject=True, setting=False) if at == first else phrase
        for at, phrase in enumerate(found)
    ]


def _limited(found: list[Phrase], limit: int) -> list[Phrase]:
    ranked = sorted(range(len(found)), key=lambda at: (not found[at].is_subject, found[at].setting))
    kept = [found[at] for at in sorted(ranked[:limit])]
    left = ", ".join(found[at].text for at in sorted(ranked[limit:]))
    if left and kept:
        told = (kept[-1].note, f"more than {limit} phrases; left out: {left}")
        kept[-1] = replace(kept[-1], note=", and ".join(filter(None, told)))
    return kept


def _subject(text: str, bare: str) -> Phrase:
    """The phrase of a trigger, with the noun that stood beside it, if any."""
    note = "" if text or bare else "the trigger stands alone and is taken for a person"
    return Phrase(text or bare or PERSON, is_subject=True, note=note)


class _Foreign:
    """Pieces between punctuation, whole."""

    def __init__(self, bare: str) -> None:
        self.bare = bare

    def read(self, text: str) -> list[Phrase]:
        pieces = (p for s in _SENTENCES.split(text) for p in _SEGMENTS.split(s))
        return [self._phrase(piece) for piece in pieces if piece.strip()]

    def _phrase(self, piece: str) -> Phrase:
        text = " ".join(piece.replace(_TRIGGER, " ").split())
        return _subject(text, self.bare) if _TRIGGER in piece else Phrase(text)


@dataclass(slots=True)
class _English:
    """Walks over the words of a caption and closes a phrase wherever a function word stands."""

    bare: str
    found: list[tuple[int, Phrase]] = field(default_factory=list)  # with the number of its group
    words: list[str] = field(default_factory=list)  # of the phrase that is open
    group: int = 0  # phrases joined by "and" are one group
    trigger: bool = False  # the open phrase has the trigger
    determined: bool = False  # ... has an article, so that what follows belongs to a noun
    place: bool = False  # ... stands behind a preposition of place
    absent: bool = False  # ... is what is not there
    behind: bool = False  # the sentence is about the background

    def read(self, text: str) -> list[Phrase]:
        for pattern, to in _REWRITTEN:
            text = pattern.sub(to, text)
        for sentence in _SENTENCES.split(text):
            self.behind = False
            for segment in _SEGMENTS.split(sentence):
                self._segment([uncounted(word) for word in _TOKENS.findall(segment)])
        return [phrase for _, phrase in self.found]

    def _segment(self, words: list[str]) -> None:
        start = len(self.found)
        for word, after in zip(words, [*words, ""][1:], strict=True):
            noun_follows = bool(after) and kind(after) in {"content", "participle"}
            said = _MARKS.get(word) or kind(word)
            if said in {"participle", "verb"}:
                said = self._acts(word, noun_follows)
            if said == "behind":
                self._behind(start)
            elif said != "adverb":
                self._take(word, said, noun_follows)
        self._break()

    def _take(self, word: str, said: str, noun_follows: bool) -> None:
        match said:
            case "content":
                self.words.append(word)
            case "trigger":
                self.trigger = True
            case "determiner":
                self.determined = True
            case "owner":
                self._owner()
            case "of":
                self._of(noun_follows)
            case "and":
                self._and(noun_follows)
            case _:
                self._break(place=said == "where", absent=said == "absent")

    def _acts(self, word: str, noun_follows: bool) -> str:
        """Whether a verb form is an action or describes the noun after it."""
        if self._named() or self.trigger:
            return "link"
        if self.words or self.determined:
            return "content"
        return "content" if noun_follows and word not in listed("transitive") else "link"

    def _named(self) -> bool:
        return any(not describes(word) for word in self.words)

    def _owner(self) -> None:
        if self.trigger:
            self._close()
        self.words.clear()
        self.determined = True

    def _of(self, noun_follows: bool) -> None:
        head = self.words[-1] if self.words else ""
        if not head or head in listed("measures") or singular(head) in listed("unseen"):
            self.words.clear()
        elif noun_follows:
            self.words.append("of")
        else:
            self._break()

    def _and(self, noun_follows: bool) -> None:
        if self.words and not self._named() and noun_follows:
            self.words.append("and")
        else:
            self._close()

    def _behind(self, start: int) -> None:
        """Of "in the background": the group before it is meant, else what follows."""
        self._close()
        if len(self.found) == start:
            self.behind = True
            return
        last = self.found[-1][0]
        self.found = [
            (group, replace(phrase, setting=group == last or phrase.setting))
            for group, phrase in self.found
        ]

    def _break(self, *, place: bool = False, absent: bool = False) -> None:
        self._close()
        self.group += 1
        self.place, self.absent = place, absent

    def _close(self) -> None:
        text = self._text()
        if self.trigger:
            self.found.append((self.group, _subject(text, self.bare)))
        elif text in {"background", "backdrop"}:
            self.behind = True
        elif text and not self.absent:
            key = Phrase(text).key
            where = key in listed("places") or (self.place and key not in things())
            self.found.append((self.group, Phrase(text, setting=where or self.behind)))
        self.words.clear()
        self.trigger = self.determined = False

    def _text(self) -> str:
        words = list(self.words)
        while words and (describes(words[-1]) or words[-1] == "of"):
            words.pop()
        if words and words[0] in listed("praise"):
            return ""
        text = " ".join(words)
        phrase = Phrase(text)
        worn = len(words) > 1 and phrase.key in things()  # a tank top is no top of the picture
        return "" if {phrase.head, phrase.key} & listed("unseen") and not worn else text
