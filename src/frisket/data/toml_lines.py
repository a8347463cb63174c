"""Where the keys of a TOML text stand: its lines, numbered from 1."""

import tomllib
from collections.abc import Sequence
from typing import Any

Key = tuple[str | int, ...]  # a place in the tree: ("data", 0, "clips")


def lines_of(text: str) -> dict[Key, int]:
    """Line number (from 1) of every key and table header of a valid TOML text."""
    found: dict[Key, int] = {}
    counts: dict[Key, int] = {}  # arrays of tables: how many entries so far
    table: Key = ()
    lines = text.replace("\r\n", "\n").split("\n")
    start = 0
    while start < len(lines):
        end, tree = _statement(lines, start)
        if lines[start].lstrip().startswith("["):
            table = _enter(tree, counts, append=lines[start].lstrip().startswith("[["))
            found.setdefault(table, start + 1)
        else:
            for key in paths(tree):
                found.setdefault(table + key, start + 1)
        start = end
    return found


def _statement(lines: Sequence[str], start: int) -> tuple[int, dict[str, Any]]:
    """The tree of the statement that begins at line `start`, and the line after it.

    Whole lines are added until they parse: a multi-line value parses at its end and not before.
    """
    for end in range(start + 1, len(lines) + 1):
        try:
            return end, tomllib.loads("\n".join(lines[start:end]))
        except tomllib.TOMLDecodeError:
            continue
    return len(lines), {}


def _enter(tree: dict[str, Any], counts: dict[Key, int], *, append: bool) -> Key:
    """The key a table header opens, with the index of every array of tables on its way."""
    path: Key = ()
    level: Any = tree
    while level:
        level = level[0] if isinstance(level, list) else level
        if not level:
            break
        (name,) = level
        level = level[name]
        path += (name,)
        last = not level or level == [{}]
        if last and append:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path += (counts[path],)
    return path


def paths(tree: Any) -> list[Key]:
    """Every key inside a parsed value, outer before inner."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    found: list[Key] = []
    for name, value in pairs:
        found.append((name,))
        if isinstance(value, dict | list):
            found += [(name, *inner) for inner in paths(value)]
    return found
