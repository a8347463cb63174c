"""How models of the pocket world read a caption: a word a slot, each a frozen vector of its own."""

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from frisket.attention.tokens import Spans

WIDTH = 64  # of one token
SLOTS = 6  # tokens a phrase; a caption is a subject phrase and a background phrase
STOP_WORDS = frozenset({"a", "an", "the", "and", "of", "with", "at", "is", "photo", "picture"})
CUT = "on"  # what divides the two phrases
EMPTY = ("", None)

# A word as it is read, and the characters of the caption it stands for.
SlotWord = tuple[str, tuple[int, int] | None]


class PocketText(nn.Module):
    """The frozen word embedding; has no weights, its vectors come from the words themselves."""


def slots(caption: str) -> list[str]:
    """The word in each of the 2 * SLOTS token slots, "" where empty.

    The caption is cut at its first `on`: subject phrase before, background phrase after. Stop
    words are dropped, each phrase keeps its last SLOTS words and is aligned right, so that a noun
    sits in the same slot whether or not adjectives come before it.
    """
    return [word for word, _ in _fill_slots(caption)]


def find_spans(caption: str) -> Spans:
    """For each of the 2 * SLOTS slots, the characters of the word in it, None where it is empty.

    What is not read between two words (stop words, `on`, quotation marks) counts to the word after
    it, and after the last word to that: a phrase with an article in it is read whole.
    """
    return [span for _, span in _fill_slots(caption)]


def _fill_slots(caption: str) -> list[SlotWord]:
    phrases: tuple[list[SlotWord], list[SlotWord]] = ([], [])
    behind = 0  # which of the two
    start: int | None = None  # of what was dropped since the last word
    for match in re.finditer(r"\S+", caption):
        word = match.group().lower().strip(".,;:!?\"'()")
        start = match.start() if start is None else start
        if word == CUT:
            behind = 1
        elif word and word not in STOP_WORDS:
            phrases[behind].append((word, (start, match.end())))
            start = None
    last = phrases[1] or phrases[0]
    if start is not None and last:
        word, span = last[-1]
        last[-1] = (word, (span[0] if span else start, len(caption.rstrip())))
    return [word for phrase in phrases for word in ([EMPTY] * SLOTS + phrase)[-SLOTS:]]


@lru_cache(maxsize=4096)
def _vector(key: str, scale: float) -> Tensor:
    # RandomState's stream is frozen by numpy's compatibility policy: the embedding is part of the
    # trained model and must never change.
    draw = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(WIDTH)
    return torch.from_numpy(draw.astype(np.float32) * np.float32(scale))


def embed(captions: Sequence[str]) -> Tensor:
    """Token embeddings `b 2*SLOTS WIDTH`: frozen word vector + slot vector; no vocabulary limit.

    The empty caption (used for classifier-free guidance) is the slot vectors alone.
    """
    rows = []
    for caption in captions:
        row = [
            _vector(f"slot {index}", 0.7) + (_vector(f"word {word}", 1.0) if word else 0)
            for index, word in enumerate(slots(caption))
        ]
        rows.append(torch.stack(row))
    return torch.stack(rows)
