"""Where each value of a config was written: the line in its file, or the `--set` it came from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from frisket.disk.toml_lines import Key, lines_of, list_paths
from frisket.disk.untrusted import BadText, cut, parse_toml, show

__all__ = ["ConfigError", "Key", "Origin", "Problem", "join_key", "lines_of", "override"]


WIDTH = 120  # letters of an override that messages show


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: at which key (or line of a text that is no TOML), and the words."""

    key: Key
    message: str
    line: int | None = None


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names file, line, value and fix.

    `problems` are all that were noticed, one by one, where the message is about keys.
    """

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        """Keep them for whoever shows each at its place."""
        super().__init__(message)
        self.problems = tuple(problems)


def join_key(key: Key) -> str:
    """A key as `--set` takes it: `data.0.clips`."""
    return ".".join(cut(str(part), 80) for part in key)


@dataclass(frozen=True, slots=True)
class Origin:
    """A config file, the line of each of its keys, and the keys that were set elsewhere."""

    path: Path | None = None
    lines: dict[Key, int] = field(default_factory=dict)
    overrides: dict[Key, str] = field(default_factory=dict)  # what stood behind `--set`
    options: dict[Key, str] = field(default_factory=dict)  # options of their own: "--cut 0.4"
    preset: tuple[str, frozenset[Key]] = ("", frozenset())  # its name, and what it sets

    def where(self, key: Key) -> str:
        """The place a reader looks at: `run.toml line 12`, `--set lora.rank=0`, `--cut 2`."""
        for size in range(len(key), 0, -1):
            part = key[:size]
            if part in self.options:
                return cut(self.options[part], WIDTH)
            for wide, text in self.overrides.items():
                if wide == part or (size == len(key) and wide[:size] == part):
                    return f"--set {cut(text, WIDTH)}"
            if part in self.lines:
                return f"{self.name} line {self.lines[part]}"
            if part in self.preset[1]:
                return f"preset {self.preset[0]} ({self.where(('preset',))})"
        return self.name

    def find_line(self, key: Key) -> int | None:
        """The line of a key in the file, or of what it stands in; None where neither is there."""
        places = (self.lines.get(key[:size]) for size in range(len(key), 0, -1))
        return next((line for line in places if line is not None), None)

    def refuse(self, key: Key, message: str) -> ConfigError:
        """The error about the value of one key, to be raised."""
        return self.refuse_all([(key, message)])

    def refuse_all(self, problems: Sequence[tuple[Key, str]]) -> ConfigError:
        """The error about several keys, a line each, to be raised."""
        return ConfigError(
            "\n".join(f"{self.where(key)}: {message}" for key, message in problems),
            [Problem(key, message, self.find_line(key)) for key, message in problems],
        )

    def is_option(self, key: Key) -> bool:
        """Whether a value was typed as an option of its own, and so in the reader's folder."""
        return any(key[: len(typed)] == typed for typed in self.options)

    @property
    def folder(self) -> Path:
        """Where relative paths start."""
        return self.path.absolute().parent if self.path else Path.cwd()

    @property
    def name(self) -> str:
        """The file's own name, or `config` for one made in code."""
        return self.path.name if self.path else "config"


def override(tree: dict[str, Any], text: str) -> Key:
    """Lay one `a.b=c` over a parsed config, in place; returns its key.

    The value is read as TOML, a bare word as a string; list entries are numbered from 0, the next
    free number adds one.
    """
    name, equals, value = text.partition("=")
    text = cut(text, WIDTH)
    if not equals:
        raise ConfigError(f"--set {text}: write it as key=value, e.g. --set lora.rank=8")
    try:
        (key,) = [path for path in list_paths(parse_toml(f"{name} = 0"))][-1:]
    except ValueError as error:
        raise ConfigError(f"--set {text}: {show(name)} is no key; write a.b.c=value") from error
    return _lay(tree, key, _value(value.strip(), text), text)


def lay_option(tree: dict[str, Any], key: Key, value: Any) -> None:
    """Lay the value of an option over a parsed config, in place.

    Where the file holds no table on the way, the file stays as it is, for its check to refuse.
    """
    table: Any = tree
    for part in key[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return
    table[key[-1]] = value


def _value(value: str, text: str) -> Any:
    try:
        parsed = parse_toml(f"value = {value}")
    except BadText as error:
        if value[:1] == "{" and "=" not in value:
            return value  # no table, so text that begins with a brace: "{caption}, {background}"
        if value[:1] in ("[", "{", '"', "'") or not error.line:
            raise ConfigError(
                f"--set {text}: {cut(value, WIDTH)} is no TOML value ({error.message})"
            ) from error
        return value
    plain = list(parsed) == ["value"] and not isinstance(parsed["value"], date | datetime | time)
    return parsed["value"] if plain else value


def _lay(tree: Any, key: Key, value: Any, text: str) -> Key:
    done: Key = ()
    for part in key[:-1]:
        index = _index(tree, part, done, text)
        if isinstance(tree, dict):
            tree.setdefault(index, [] if part == "data" else {})
        inner = tree[index]
        if done == ("losses",) and isinstance(inner, int | float):
            tree[index] = inner = {"strength": inner}  # a bare strength opens into its table
        tree, done = inner, (*done, index)
    index = _index(tree, key[-1], done, text)
    tree[index] = value
    return (*done, index)


def _index(tree: Any, part: str | int, done: Key, text: str) -> str | int:
    """`part` as a key or list index of `tree`; the next free index adds an empty table."""
    if isinstance(tree, dict):
        return part
    if not isinstance(tree, list):
        raise ConfigError(
            f"--set {text}: {join_key(done)} is {show(tree)}, no table; set all of it"
        )
    if not re.fullmatch(r"[0-9]{1,9}", str(part)) or int(part) > len(tree):
        raise ConfigError(
            f"--set {text}: {join_key(done)} has {len(tree)} entries, numbered from 0; not"
            f" {show(part)}"
        )
    if int(part) == len(tree):
        tree.append({})
    return int(part)
