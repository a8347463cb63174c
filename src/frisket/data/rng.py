"""Chance as a function: the same question always gets the same answer, on every machine."""

import hashlib
from collections.abc import Hashable


def draw(*question: Hashable) -> float:
    """A number in [0, 1), uniform over questions; the same for the same question, for ever.

    A hash and not a generator, so that any step of a run is known without replaying those before,
    and no release of a library changes a run.
    """
    text = "\x1f".join(str(part) for part in question)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") / (1 << 56)


def order(count: int, *question: Hashable) -> list[int]:
    """A permutation of `count` things."""
    return sorted(range(count), key=lambda index: draw(*question, index))
