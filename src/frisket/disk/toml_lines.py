"""Where the keys of a TOML text stand: its lines, numbered from 1."""

import re
import tomllib
from collections.abc import Iterator
from typing import Any

Key = tuple[str | int, ...]  # a place in the tree: ("data", 0, "clips")


# What may hold a bracket or a line end that is none of the grammar's: strings and comments.
_TOKEN = re.compile(
    r'''"""(?:[^"\\]++|\\.|"(?!""))*+"{3,5}|'{3}(?:[^']++|'(?!''))*+'{3,5}'''
    r"""|"(?:[^"\\\n]++|\\.)*+"|'[^'\n]*+'|#[^\n]*+|[][{}\n]""",
    re.DOTALL,
)


def lines_of(text: str) -> dict[Key, int]:
    """Line number (from 1) of every key and table header of a valid TOML text, in linear time."""
    lines: dict[Key, int] = {}
    counts: dict[Key, int] = {}  # arrays of tables: how many entries so far
    table: Key = ()
    for line, statement in _split_statements(text.replace("\r\n", "\n")):
        tree = tomllib.loads(statement)
        if statement.lstrip().startswith("["):
            table = _enter(tree, counts, append=statement.lstrip().startswith("[["))
            lines.setdefault(table, line)
        else:
            for key in list_paths(tree):
                lines.setdefault(table + key, line)
    return lines


def _split_statements(text: str) -> Iterator[tuple[int, str]]:
    """Each statement and the line (from 1) it begins on: up to a line end within no bracket."""
    start, begun, line, depth = 0, 1, 1, 0
    for token in _TOKEN.finditer(text):
        letter = token[0]
        if letter == "\n":
            line += 1
            if depth == 0:
                yield begun, text[start : token.end()]
                start, begun = token.end(), line
        elif letter in ("[", "{"):
            depth += 1
        elif letter in ("]", "}"):
            depth -= 1
        else:
            line += letter.count("\n")
    yield begun, text[start:]


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


def list_paths(tree: Any) -> list[Key]:
    """Every key inside a parsed value, outer before inner."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
    keys: list[Key] = []
    for name, value in pairs:
        keys.append((name,))
        if isinstance(value, dict | list):
            keys += [(name, *inner) for inner in list_paths(value)]
    return keys
