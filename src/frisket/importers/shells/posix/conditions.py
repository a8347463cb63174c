"""What `[ ... ]`, `[[ ... ]]` and `test` say of values that are known."""

from collections.abc import Sequence
from typing import Literal

from frisket.importers.shells.words import compare, is_known


def evaluate_test(words: Sequence[str]) -> bool | Literal["no test"] | None:
    """Whether a test holds; None where it asks for more than values, such as for a file."""
    name = words[0] if words else ""
    if name in ("true", ":", "false"):
        return name != "false"
    ends = {"[": "]", "[[": "]]", "test": ""}
    if name not in ends:
        return "no test"
    rest = [*words[1:]]
    if rest and rest[-1] == ends[name]:
        rest.pop()
    return _holds(rest)


def _holds(rest: Sequence[str]) -> bool | None:
    if rest[:1] == ["!"]:
        inner = _holds(rest[1:])
        return None if inner is None else not inner
    if len(rest) <= 1:
        return None if rest and not is_known(rest[0]) else bool(rest and rest[0])
    if len(rest) == 2 and rest[0] in ("-n", "-z"):
        return None if not is_known(rest[1]) else bool(rest[1]) is (rest[0] == "-n")
    return compare(rest[0], rest[1], rest[2]) if len(rest) == 3 else None
