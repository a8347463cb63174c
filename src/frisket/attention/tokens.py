"""Which positions of the text axis a phrase takes: found by characters, whatever the tokenizer."""

import unicodedata
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

# For each position of the conditioning's text axis, the characters of the prompt it was made from
# (start, end); None for what no prompt has: specials, padding, a template around it, a picture.
Spans = Sequence[tuple[int, int] | None]

LISTED = 5  # clips named in an error about many
# Written without spaces, or with endings tied to the word: a word may begin and end anywhere.
UNSPACED = (
    *("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR"),
    *("TIBETAN", "YI ", "IDEOGRAPHIC"),
)


class PhraseNotFound(ValueError):
    """The phrase does not stand in the prompt as whole words."""


class PhraseCut(ValueError):
    """The phrase stands in the prompt where the model does not read it, or not all of it."""


class PhrasesNotRead(ValueError):
    """Some captions lack a phrase, or it is cut; `failures` holds each clip's error by its name."""

    def __init__(self, failures: Sequence[tuple[str, ValueError]], total: int) -> None:
        self.failures = tuple(failures)
        listed = [f"{name}: {error}" for name, error in failures[:LISTED]]
        rest = len(failures) - len(listed)
        more = f"\n... and {rest} more" if rest else ""
        super().__init__(
            f"{len(failures)} of {total} times a phrase is not read where a caption should have"
            " it:\n" + "\n".join(listed) + more
        )


def locate(spans: Spans, prompt: str, phrase: str) -> tuple[int, ...]:
    """Positions on the text axis that a phrase takes in a prompt, in order; of all its occurrences.

    Upper and lower case are alike, so are kinds and numbers of spaces and the two ways to write an
    accent. A phrase is whole words: `fox` is not in `foxes`. A token that holds a piece of the
    phrase counts, also where it holds more (as in scripts without spaces). An occurrence that is
    cut is left out where another one is whole.

    PhraseNotFound where the phrase is not in the prompt, PhraseCut where no occurrence is read to
    its end, ValueError for an empty phrase.
    """
    occurrences = find_occurrences(prompt, phrase)
    if not occurrences:
        raise PhraseNotFound(_describe_missing(prompt, phrase))
    positions: set[int] = set()
    for start, end in occurrences:
        overlapping = [
            position
            for position, span in enumerate(spans)
            if span is not None and span[0] < end and start < span[1]
        ]
        if _covers(spans, overlapping, prompt, start, end):
            positions.update(overlapping)
    if not positions:
        raise PhraseCut(_describe_cut(spans, prompt, phrase, occurrences[0][0]))
    return tuple(sorted(positions))


def locate_all(
    spans: Sequence[Spans],
    captions: Sequence[str],
    phrases: Sequence[str],
    *,
    names: Sequence[str] = (),
) -> list[list[tuple[int, ...]]]:
    """`locate` of every phrase in every caption: `PhrasePositions`, a row for each caption.

    `spans` and `captions` belong together row by row, and so do `names`, which an error calls the
    captions by (else by their number). PhrasesNotRead with all that is missing or cut, the first
    five written out.
    """
    labels = list(names) or [f"caption {number}" for number in range(1, len(captions) + 1)]
    rows: list[list[tuple[int, ...]]] = []
    failures: list[tuple[str, ValueError]] = []
    for name, row_spans, caption in zip(labels, spans, captions, strict=True):
        row: list[tuple[int, ...]] = []
        for phrase in phrases:
            try:
                row.append(locate(row_spans, caption, phrase))
            except (PhraseNotFound, PhraseCut) as error:
                failures.append((name, error))
        rows.append(row)
    if failures:
        raise PhrasesNotRead(failures, len(captions) * len(phrases))
    return rows


def locate_present(
    spans: Sequence[Spans], prompts: Sequence[str], phrase: str
) -> list[list[tuple[int, ...]]]:
    """`locate` of one phrase in prompts that need not have it: a row of one phrase for each prompt.

    () where the prompt is without it, as a negative prompt is; PhraseCut where it stands there and
    is not read. With `mark_phrases` this is the focus mask of TARA (arXiv 2508.08812, section
    3.2; `build_token_masks` of the authors' code), whose own code takes a word that is cut off for
    one that is not there. Tokenizers side by side give one axis, so that nothing is joined by or.
    """
    rows: list[list[tuple[int, ...]]] = []
    for row_spans, prompt in zip(spans, prompts, strict=True):
        present = bool(find_occurrences(prompt, phrase))
        rows.append([locate(row_spans, prompt, phrase) if present else ()])
    return rows


def find_occurrences(prompt: str, phrase: str) -> list[tuple[int, int]]:
    """Where a phrase stands in a prompt as whole words, as characters (start, end), in order.

    ValueError for a phrase of nothing but spaces.
    """
    needle = "".join(character for character, _ in _fold(phrase)).strip()
    if not needle:
        raise ValueError(f"the phrase {phrase!r} is empty: it must be words of the prompt")
    letters = list(_fold(prompt))
    text = "".join(character for character, _ in letters)
    occurrences = []
    at = text.find(needle)
    while at >= 0:
        last = at + len(needle) - 1
        if not (_is_joined(letters, at) or _is_joined(letters, last + 1)):
            occurrences.append((letters[at][1][0], letters[last][1][1]))
        at = text.find(needle, at + 1)
    return occurrences


def _fold(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Characters to compare, each with the characters of `text` it stands for.

    A letter and its accents are one, small; any run of spaces is one space.
    """
    start = 0
    while start < len(text):
        end = start + 1
        if text[start].isspace():
            while end < len(text) and text[end].isspace():
                end += 1
            folded = " "
        else:
            while end < len(text) and unicodedata.category(text[end]).startswith("M"):
                end += 1
            folded = unicodedata.normalize("NFC", text[start:end]).casefold()
        for character in folded:
            yield character, (start, end)
        start = end


def _is_joined(letters: Sequence[tuple[str, tuple[int, int]]], at: int) -> bool:
    """Whether no word can begin or end before the character at `at`."""
    if not 0 < at < len(letters):
        return False
    (before, before_span), (after, after_span) = letters[at - 1], letters[at]
    if before_span == after_span:
        return True  # one letter that is two when folded
    return all(_is_in_word(character) for character in (before, after))


def _is_in_word(character: str) -> bool:
    if not (character.isalnum() or character == "_" or unicodedata.combining(character)):
        return False
    return not unicodedata.name(character, "").startswith(UNSPACED)


def _covers(spans: Spans, overlapping: Sequence[int], prompt: str, start: int, end: int) -> bool:
    """Whether some position holds each character from `start` to `end` that is no space."""
    covered: set[int] = set()
    for position in overlapping:
        covered.update(range(*(spans[position] or (0, 0))))
    return all(prompt[index].isspace() or index in covered for index in range(start, end))


def _describe_missing(prompt: str, phrase: str) -> str:
    words = [word.strip(".,;:!?\"'()[]") for word in prompt.casefold().split()]
    count = len(phrase.split())
    windows = [" ".join(words[i : i + count]) for i in range(len(words) - count + 1)]
    near = get_close_matches(phrase.casefold(), [window for window in windows if window], n=1)
    nearest = f"; the nearest in it is {near[0]!r}" if near else ""
    return (
        f"the phrase {phrase!r} is not in the prompt {_shorten(prompt)!r}{nearest}. Write it as the"
        " prompt does, or put it into the prompt."
    )


def _describe_cut(spans: Spans, prompt: str, phrase: str, start: int) -> str:
    own_spans = [span for span in spans if span is not None]
    if not own_spans:
        return (
            f"the phrase {phrase!r} is not read: no token of the prompt {_shorten(prompt)!r} is"
            f" among the model's {len(spans)}"
        )
    first, last = min(span[0] for span in own_spans), max(span[1] for span in own_spans)
    return (
        f"the phrase {phrase!r} is cut off: of the prompt {_shorten(prompt)!r} the model reads"
        f" {len(own_spans)} tokens, the characters {first} to {last}, and the phrase begins"
        f" at character {start}. Move it away from the cut, or make the prompt shorter."
    )


def _shorten(prompt: str, length: int = 60) -> str:
    return prompt if len(prompt) <= length else f"{prompt[: length - 3]}..."
