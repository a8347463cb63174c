"""Which characters of a prompt each token is of: through templates, tidying, any tokenizer."""

import unicodedata
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from transformers import AutoTokenizer

from frisket.attention.tokens import Spans
from frisket.families import weights
from frisket.families.base import Source

CharSpan = tuple[int, int]
MARK = "\ue000\ue001\ue000"  # stands in for a prompt to find where a template puts it
HALF = "\ufffd"  # what bytes that are no whole character decode to


class TokenSpans(NamedTuple):
    """The tokens of one text, and the characters each is of (None: a special, or padding)."""

    ids: list[int]
    spans: list[CharSpan | None]


def load_tokenizers(source: Source, repo: str, *names: str) -> dict[str, Any]:
    """Tokenizers by the pipeline's names for them; WeightsNotFound as `weights.load`."""
    return {name: weights.load(AutoTokenizer, source, repo, name) for name in names}


def read_prompts(tokenizer: Any, prompts: Sequence[str], length: int) -> list[Spans]:
    """Spans of prompts that are read as they are, padded or cut to `length` tokens."""
    options = {"padding": "max_length", "truncation": True, "max_length": length}
    return [fill_gaps(read_text(tokenizer, prompt, **options).spans, prompt) for prompt in prompts]


def read_template(
    tokenizer: Any, render: Callable[[str], str], prompt: str, **options: Any
) -> TokenSpans:
    """Tokens of the text that `render` makes of a prompt, with the prompt's characters.

    `options` are the tokenizer's. ValueError where `render` does not have the prompt in it.
    """
    text, start, inner = _find_prompt(render, prompt)
    return _move(read_text(tokenizer, text, **options), start, inner, prompt)


def read_cleaned(tokenizer: Any, cleaned: str, prompt: str, **options: Any) -> TokenSpans:
    """Tokens of what was tidied up, with the characters of the prompt it was before."""
    return _move(read_text(tokenizer, cleaned, **options), 0, cleaned, prompt)


def read_text(tokenizer: Any, text: str, **options: Any) -> TokenSpans:
    """Tokens of a text with the characters of it that each is of, without spaces around them.

    A token of spaces alone keeps them. ValueError for a tokenizer that does not say, and whose
    pieces do not decode to the text.
    """
    if getattr(tokenizer, "is_fast", False):
        encoding = tokenizer(text, return_offsets_mapping=True, **options)
        ids, sequences = encoding["input_ids"], encoding.sequence_ids(0)
        spans = [
            None if sequence is None else span
            for span, sequence in zip(encoding["offset_mapping"], sequences, strict=True)
        ]
    else:
        encoding = tokenizer(text, return_special_tokens_mask=True, **options)
        ids, special = encoding["input_ids"], encoding["special_tokens_mask"]
        spans = _decode_spans(tokenizer, text, ids, special)
    return TokenSpans(list(ids), [None if span is None else _trim(text, span) for span in spans])


def align(read: str, prompt: str) -> list[CharSpan]:
    """For each character of what is read of a prompt, the characters of the prompt it stands for.

    What was tidied up (spaces, entities, wrong encodings) is matched by the text that stayed around
    it. Characters that came out of nothing have an empty span.
    """
    if read == prompt:
        return [(index, index + 1) for index in range(len(prompt))]
    origins: list[CharSpan] = []
    matcher = SequenceMatcher(None, read, prompt, autojunk=False)
    for kind, read_start, read_end, start, end in matcher.get_opcodes():
        for index in range(read_end - read_start):
            at = start + index
            origins.append((at, at + 1) if kind == "equal" else (start, end))
    return origins


def fill_gaps(spans: Sequence[CharSpan | None], prompt: str) -> list[CharSpan | None]:
    """Give what was tidied away between two tokens (or before the first) to the later one.

    So that characters which no token has are those that were cut off. Spaces are left out, and an
    accent that was joined with its letter goes to the letter's tokens.
    """
    spans_without_gaps: list[CharSpan | None] = []
    reached = 0
    for span in _add_accents(spans, prompt):
        if span is None:
            spans_without_gaps.append(None)
            continue
        start, end = span
        gap = prompt[reached:start]
        if gap.strip():
            start = reached + len(gap) - len(gap.lstrip())
        spans_without_gaps.append((start, end))
        reached = max(reached, end)
    return spans_without_gaps


def _add_accents(spans: Sequence[CharSpan | None], prompt: str) -> list[CharSpan | None]:
    """Spans whose letter a tokenizer joined with what follows it end after that.

    Tokenizers that compose text (NFC) place the composed letter at its first character alone:
    accents after their letter, the parts of a Korean syllable.
    """
    starts = {span[0] for span in spans if span is not None}
    longer_spans: list[CharSpan | None] = []
    for span in spans:
        if span is None:
            longer_spans.append(None)
            continue
        start, end = span
        while (
            end < len(prompt) and end not in starts and _is_composed(prompt[start:end], prompt[end])
        ):
            end += 1
        longer_spans.append((start, end))
    return longer_spans


def _is_composed(before: str, after: str) -> bool:
    if unicodedata.combining(after):
        return True
    return len(unicodedata.normalize("NFC", before + after)) == len(
        unicodedata.normalize("NFC", before)
    )


def check_agreement(first: list[Spans], second: list[Spans], *, model_name: str) -> list[Spans]:
    """`first`, where two tokenizers side by side on one axis cut every prompt alike.

    ValueError where they do not: a position would then be two different words.
    """
    if [list(row) for row in first] != [list(row) for row in second]:
        raise ValueError(
            f"the two tokenizers of {model_name} cut a prompt differently, so a position is not one"
            " word: they are not the released ones. Check tokenizer/ and tokenizer_2/ of"
            " model.source."
        )
    return first


def _find_prompt(render: Callable[[str], str], prompt: str) -> tuple[str, int, str]:
    """The rendered text, where in it the prompt begins, and what of it is the prompt."""
    text = render(prompt)
    before, mark, after = render(MARK).partition(MARK)
    end = len(text) - len(after)
    if not mark or MARK in after or not (text.startswith(before) and text.endswith(after)):
        raise ValueError(
            f"the chat template of this tokenizer does not hold the prompt {prompt[:60]!r} once:"
            " it is not the released one. Check tokenizer/ of model.source."
        )
    return text, len(before), text[len(before) : end]


def _move(tokens: TokenSpans, start: int, inner: str, prompt: str) -> TokenSpans:
    """From the characters of a text, in which `inner` begins at `start`, to those of the prompt."""
    origins = align(inner, prompt)
    prompt_spans = [
        None if span is None else _translate(origins, span[0] - start, span[1] - start)
        for span in tokens.spans
    ]
    return TokenSpans(tokens.ids, fill_gaps(prompt_spans, prompt))


def _translate(origins: Sequence[CharSpan], start: int, end: int) -> CharSpan | None:
    """The characters of the prompt behind what is read from `start` to `end`, None for none."""
    behind = [span for span in origins[max(0, start) : max(0, end)] if span[0] < span[1]]
    return (behind[0][0], behind[-1][1]) if behind else None


def _trim(text: str, span: CharSpan) -> CharSpan | None:
    start, end = span
    if start >= end:
        return None  # the mark of a word's beginning, of no character
    inner = text[start:end]
    if not inner.strip():
        return span
    return start + len(inner) - len(inner.lstrip()), end - (len(inner) - len(inner.rstrip()))


def _decode_spans(
    tokenizer: Any, text: str, ids: Sequence[int], special: Sequence[int]
) -> list[CharSpan | None]:
    """By decoding one piece more at a time; a piece of a character stands for all of it."""
    prompt_ids = [token for token, of_template in zip(ids, special, strict=True) if not of_template]
    ends = [0]
    for count in range(1, len(prompt_ids) + 1):
        decoding = tokenizer.decode(prompt_ids[:count], clean_up_tokenization_spaces=False).rstrip(
            HALF
        )
        if not text.startswith(decoding) or len(decoding) < ends[-1]:
            raise ValueError(
                f"{type(tokenizer).__name__} does not say which characters a token is of, and its"
                f" tokens do not decode to the prompt {text[:60]!r}: use the fast tokenizer"
                " (tokenizer.json in model.source)"
            )
        ends.append(len(decoding))
    pieces = iter(range(len(prompt_ids)))
    spans: list[CharSpan | None] = []
    for of_template in special:
        if of_template:
            spans.append(None)
            continue
        piece = next(pieces)
        piece_end = next((end for end in ends[piece + 1 :] if end > ends[piece]), len(text))
        spans.append((ends[piece], piece_end))
    return spans
