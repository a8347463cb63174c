"""Writes what was explained: lines for a terminal, or a config file with comments."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import tomlkit

from frisket.config.provenance import Key
from frisket.recipes.provenance.values import ExplainedValue, Explanation


def write_lines(explanation: Explanation) -> Iterator[str]:
    """For a terminal: what was left out, then every value with its source behind it."""
    yield from (f"# {note}" for note in explanation.notes)
    section: Key = ()
    for entry in explanation.values:
        if entry.key[:-1] != section:
            section = entry.key[:-1]
            yield ""
            yield f"[{'.'.join(map(str, section))}]"
        value = "(empty)" if entry.value is None else json.dumps(entry.value, ensure_ascii=False)
        yield f"{f'{entry.key[-1]} = {value}':<44} # {entry.comment}"


def write_toml(explanation: Explanation) -> str:
    """As a config file of the same configuration, paths in full, each value with its source."""
    document = tomlkit.document()
    for note in explanation.notes:
        document.add(tomlkit.comment(note))
    for entry in explanation.values:
        if entry.value is not None:
            _put(document, entry)
    return tomlkit.dumps(document)


def _put(document: Any, entry: ExplainedValue) -> None:
    """Set one value in its table, which is made where it is not there."""
    table = document
    for part, following in zip(entry.key[:-1], entry.key[1:], strict=True):
        if isinstance(part, int):
            while len(table) <= part:
                table.append(tomlkit.table())
            table = table[part]
            continue
        if part not in table:
            table.add(part, tomlkit.aot() if isinstance(following, int) else tomlkit.table())
        table = table[part]
    name = str(entry.key[-1])
    item = tomlkit.item(entry.value)
    if not isinstance(entry.value, Mapping):
        item.comment(entry.comment)
    table.add(name, item)
