"""Captions to the noun phrases in them, by small word lists and no language model."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from frisket.maskgen.text.chunks import Chunk, ReadChunks, read_chunks
from frisket.maskgen.text.words import head_of, to_singular

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
        return head_of(self.text)

    @property
    def key(self) -> str:
        """The head in the singular, which counts "women" and "a young woman" as one."""
        return to_singular(self.head)


def find_noun_phrases(
    caption: str,
    trigger: str = "",
    class_word: str = "",
    *,
    limit: int = LIMIT,
    read: ReadChunks = read_chunks,
) -> list[Phrase]:
    """The phrases of a caption (sentences or a list of tags), in its order, each once.

    Left out are media and style ("photo of", "best quality"), light, time, mood, actions, what is
    said to be absent, articles, counts and the owner in "a woman's hair". The trigger and the noun
    beside it are one subject, named by the noun; a bare trigger is named by `class_word`, else
    "person", with a note. Without a trigger the first noun that is the class word is the subject.
    Captions in other languages are split at their punctuation and kept whole. Of more than `limit`
    phrases settings go first, then the last ones, and the last that is kept says so in its note.
    `read` finds the phrases: by word lists, or by a parse (`spacy_chunks.load_reader`).
    """
    bare = class_word or (trigger.rsplit(maxsplit=1)[-1] if " " in trigger.strip() else "")
    phrases = _merge_repeats(
        [_make_phrase(chunk, bare.lower()) for chunk in read(caption, trigger)]
    )
    if class_word and not any(phrase.is_subject for phrase in phrases):
        phrases = _with_subject(phrases, to_singular(class_word.lower()))
    return _limit(phrases, limit)


def parse_phrases(text: str) -> list[Phrase]:
    """Phrases written by hand: "face; hair; red jacket", or "face = head, face; hair".

    Commas and semicolons part them. `region = phrase` gives a phrase and those after it, up to the
    next semicolon or `=`, to that region. BadPhrases where nothing is named.
    """
    phrases: list[Phrase] = []
    for group in text.split(";"):
        region = ""
        for part in group.split(","):
            region_name, equals, phrase = (piece.strip().lower() for piece in part.rpartition("="))
            if equals and not (region_name and phrase):
                raise BadPhrases(f"{part.strip()!r} needs a name on both sides, as in face=head")
            region = region_name or region
            if phrase:
                phrases.append(Phrase(" ".join(phrase.split()), region=region))
    if not phrases:
        raise BadPhrases(f"no phrase in {text!r}; write some, as in --phrases 'face; red jacket'")
    return list(dict.fromkeys(phrases))


@dataclass(frozen=True, slots=True)
class Concept:
    """What several captions name, under one head noun."""

    phrase: Phrase  # as it is written everywhere, else the head noun alone
    captions: int  # that name it
    clips: tuple[str, ...]  # the first few of them
    written: Mapping[str, int]  # every way it is written to the captions that do


@dataclass(frozen=True, slots=True)
class PhraseCounts:
    """The concepts of a data set, those in most captions first, and what should be told."""

    concepts: tuple[Concept, ...]
    captions: int
    notes: tuple[str, ...] = ()

    @property
    def phrases(self) -> list[Phrase]:
        """One phrase a concept."""
        return [concept.phrase for concept in self.concepts]


def survey_captions(
    captions: Iterable[tuple[str, str]],
    trigger: str = "",
    class_word: str = "",
    *,
    limit: int = LIMIT,
    examples: int = 3,
    read: ReadChunks = read_chunks,
) -> PhraseCounts:
    """What (clip, caption) pairs name, each head noun once: "women" and "a young woman" are one.

    A concept is the subject if it is so in any caption, and a setting if it is so in all. What is
    kept grows with the vocabulary, not with the number of captions.
    """
    tallies: dict[str, _Tally] = {}
    notes: Counter[str] = Counter()
    caption_count = 0
    for clip, caption in captions:
        caption_count += 1
        once: dict[str, list[Phrase]] = {}
        for phrase in find_noun_phrases(caption, trigger, class_word, limit=limit, read=read):
            once.setdefault(phrase.key, []).append(phrase)
            if phrase.note:
                notes[phrase.note.partition(";")[0]] += 1
        for key, phrases in once.items():
            tallies.setdefault(key, _Tally(key)).add(clip, phrases, examples)
    ranked = sorted(tallies.values(), key=lambda tally: -tally.captions)
    note_lines = tuple(
        f"{note} ({count} of {caption_count} captions)" for note, count in notes.most_common()
    )
    return PhraseCounts(tuple(tally.concept() for tally in ranked), caption_count, note_lines)


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


def _merge_repeats(phrases: Sequence[Phrase]) -> list[Phrase]:
    once: dict[str, Phrase] = {}
    for phrase in phrases:
        earlier = once.get(phrase.text, phrase)
        once[phrase.text] = replace(
            earlier,
            is_subject=earlier.is_subject or phrase.is_subject,
            setting=earlier.setting and phrase.setting,
            note=earlier.note or phrase.note,
        )
    return list(once.values())


def _with_subject(phrases: list[Phrase], key: str) -> list[Phrase]:
    first = next((at for at, phrase in enumerate(phrases) if phrase.key == key), None)
    return [
        replace(phrase, is_subject=True, setting=False) if at == first else phrase
        for at, phrase in enumerate(phrases)
    ]


def _limit(phrases: list[Phrase], limit: int) -> list[Phrase]:
    ranked = sorted(
        range(len(phrases)), key=lambda at: (not phrases[at].is_subject, phrases[at].setting)
    )
    limited = [phrases[at] for at in sorted(ranked[:limit])]
    left = ", ".join(phrases[at].text for at in sorted(ranked[limit:]))
    if left and limited:
        notes = (limited[-1].note, f"more than {limit} phrases; left out: {left}")
        limited[-1] = replace(limited[-1], note=", and ".join(filter(None, notes)))
    return limited


def _make_phrase(chunk: Chunk, bare: str) -> Phrase:
    """A chunk with the trigger alone is named by the class word, or taken for a person."""
    if not chunk.trigger:
        return Phrase(chunk.text, setting=chunk.setting)
    note = "" if chunk.text or bare else "the trigger stands alone and is taken for a person"
    return Phrase(chunk.text or bare or PERSON, is_subject=True, note=note)
