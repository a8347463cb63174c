"""Reads the files that other trainers are configured by, and finds what their paths name."""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml  # type: ignore[import-untyped]

from frisket.disk.toml_lines import Key, lines_of
from frisket.disk.untrusted import (
    CONFIG,
    DEEPEST,
    MIB,
    BadText,
    check_tree,
    cut,
    parse_json,
    parse_toml,
    read_text,
    wrap_error,
)
from frisket.importers.base import BadImport
from frisket.media.paths import expand_home

# Bytes by suffix: text written by hand, not a data set. JSON is parsed fast, and often generated.
# A YAML parser in Python reads 100 kB a second.
LARGEST = {".json": 8 * MIB, ".yaml": MIB // 4, ".yml": MIB // 4}
MOST = 200_000  # values of a YAML file once its aliases are written out
SUFFIXES = (".toml", ".json", ".yaml", ".yml")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],\n]')  # of JSON, but for colons and plain values


@dataclass(frozen=True, slots=True)
class Written:
    """A parsed configuration: its tree, and the line of each key (from 1) where it is known."""

    path: Path
    tree: Any
    lines: Mapping[Key, int]

    def line(self, key: Key) -> int | None:
        """The line of a key, or of the nearest table around it; None for one that is nowhere."""
        sizes = range(len(key), 0, -1)
        return next((self.lines[key[:n]] for n in sizes if key[:n] in self.lines), None)

    def where(self, key: Key) -> str:
        """The place a reader looks at: `set.toml line 12`."""
        line = self.line(key)
        return f"{self.path}" + (f" line {line}" if line else "")


def format_key(key: Key) -> str:
    """A key as its reader would say it: `datasets[0].subsets[1].image_dir`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return "".join(parts).removeprefix(".")


def read_config(path: Path) -> Written:
    """Parse a TOML, JSON or YAML file, told apart by suffix.

    UTF-8 with or without byte-order mark. Raises BadImport for a file that is not there, is larger
    than 1 MiB (JSON: 8 MiB, YAML: 256 KiB), is of another encoding, or does not parse (with line
    and column), and for one past a limit: 64 levels, numbers of 64 bits, aliases that multiply.
    """
    form = {".toml": "TOML", ".json": "JSON", ".yaml": "YAML", ".yml": "YAML"}
    if path.suffix.lower() not in form:
        raise BadImport(f"{path}: a configuration ends in one of {', '.join(SUFFIXES)}")
    readers: dict[str, Callable[[str], tuple[Any, Mapping[Key, int]]]] = {
        "TOML": lambda text: (parse_toml(text), lines_of(text)),
        "JSON": lambda text: (parse_json(text), _find_json_lines(text)),
        "YAML": _parse_yaml,
    }
    kind = form[path.suffix.lower()]
    text = _read_text(path)
    try:
        tree, lines = readers[kind](text)
    except BadText as error:
        raise _describe_fault(path, kind, error, text.split("\n")) from error
    return Written(path, tree, lines)


def peek(path: Path) -> Any:
    """The parsed tree, or None for anything that is no readable configuration: for `matches`."""
    try:
        return read_config(path).tree if path.is_file() else None
    except BadImport:
        return None


def _read_text(path: Path) -> str:
    try:
        return read_text(path, LARGEST.get(path.suffix.lower(), CONFIG)).replace("\r\n", "\n")
    except FileNotFoundError as error:
        raise BadImport(f"{path}: there is no such file") from error
    except OSError as error:
        raise BadImport(f"{path}: cannot be read ({error.strerror})") from error
    except BadText as error:
        raise BadImport(f"{path}{_format_place(error)}: {error.message}") from error


def _format_place(error: BadText) -> str:
    return f" line {error.line}, column {error.column}" if error.line else ""


def _find_json_lines(text: str) -> dict[Key, int]:
    """The line of every key, and of every table or list in a list, of a valid JSON text."""
    lines: dict[Key, int] = {}
    path: list[str | int] = []  # the key or index that is open in each table and list around
    keyed = False  # within a table, before a key
    line = 1
    for token in _TOKEN.findall(text):
        if token == "\n":
            line += 1
        elif token in "{[":
            if path:
                lines.setdefault(tuple(path), line)
            path.append("" if token == "{" else 0)
            keyed = token == "{"
        elif token in "}]":
            path.pop()
            keyed = False
        elif token == ",":
            last = path[-1]
            keyed = isinstance(last, str)
            path[-1] = last if isinstance(last, str) else last + 1
        elif keyed:
            path[-1], keyed = str(json.loads(token)), False
            lines.setdefault(tuple(path), line)
    return lines


def _parse_yaml(text: str) -> tuple[Any, Mapping[Key, int]]:
    """Keys are text as they are written (`on`, `1`), for that is how options are named."""
    try:
        if _count_open(text) > 16 * DEEPEST:  # the parser's time grows with the square of them
            raise RecursionError
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _measure(node, {}, 0)
        tree = None if node is None else loader.construct_document(node)
    except BadText:
        raise
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        message = cut(error.problem or error.context or "cannot be read")
        raise BadText(message, line, column) from error
    except yaml.YAMLError as error:
        raise BadText(cut(str(error).replace("\n", " "))) from error
    except Exception as error:
        raise wrap_error(error) from error
    check_tree(tree)
    return tree, dict(_iterate_lines(node))


def _count_open(text: str) -> int:
    """The most brackets that are open at once, those in quoted text counted too."""
    steps = (1 if bracket[0] in "[{" else -1 for bracket in re.finditer(r"[][{}]", text))
    return max(accumulate(steps), default=0)


def _measure(node: Any, sizes: dict[int, int], depth: int) -> int:
    """Count the values below a YAML node, aliases written out, before anything is built of them.

    Keys are made text on the way. BadText for too many, too deep, or a node that holds itself.
    """
    known = sizes.get(id(node))
    if known == 0:
        raise BadText("a table or list holds itself", node.start_mark.line + 1, 1)
    if known is not None:
        return known
    if depth > DEEPEST:
        raise wrap_error(RecursionError())
    sizes[id(node)] = 0
    inside: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                key.tag = "tag:yaml.org,2002:str"
            inside += [key, value]
    elif isinstance(node, yaml.SequenceNode):
        inside = node.value
    size = 1
    for value in inside:
        size += _measure(value, sizes, depth + 1)
        if size > MOST:
            message = f"holds more than {MOST:,} values once its aliases are written out"
            raise BadText(message, node.start_mark.line + 1, 1)
    sizes[id(node)] = size
    return size


def _describe_fault(path: Path, form: str, error: BadText, lines: list[str]) -> BadImport:
    line = error.line or 0
    excerpt = cut(lines[line - 1].strip(), 120) if 0 < line <= len(lines) else ""
    hint = ""
    if form == "TOML" and "\\" in excerpt:
        hint = "; write paths with / or in 'single quotes'"
    elif form == "JSON" and "\\" in excerpt:
        hint = "; write paths with / or with \\\\"
    quotation = f"\n    {excerpt}" if line else ""
    return BadImport(
        f"{path}{_format_place(error)}: not valid {form}: {error.message}{hint}{quotation}"
    )


def _iterate_lines(node: Any, key: Key = ()) -> Iterator[tuple[Key, int]]:
    """The line of every key below a YAML node; what an alias repeats is left out."""
    pairs: list[tuple[str | int, Any, Any]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = [(str(name.value), name, value) for name, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(number, value, value) for number, value in enumerate(node.value)]
    for part, mark, value in pairs:
        yield (*key, part), mark.start_mark.line + 1
        if value.start_mark.index > node.start_mark.index:  # an alias points back
            yield from _iterate_lines(value, (*key, part))


def locate(text: str, base: Path) -> tuple[Path | None, list[Path]]:
    r"""What a path in a configuration names, and the places that were tried for it.

    Absolute paths and `~` are taken as they are; relative ones from `base`, the configuration's
    folder, then from the current folder, where these trainers are started. An absolute path that is
    not here, of another machine or system (`C:\data\set\clips`), is looked for below `base` and
    the folder around it by its own last parts, the most of them first.
    """
    windows = re.match(r"[A-Za-z]:[\\/]|\\\\", text) or "/" not in text
    pure = PureWindowsPath(text) if windows else PurePosixPath(text)
    direct = expand_home(Path(pure.as_posix()))
    candidates = [direct] if direct.is_absolute() else []
    if pure.is_absolute():
        tails = [Path(*pure.parts[n:]) for n in range(1, len(pure.parts))]
        candidates += [root / tail for tail in tails for root in (base, base.parent)]
    else:
        candidates += [base / direct, Path.cwd() / direct]
    candidates = list(dict.fromkeys(candidates))
    # os.path.exists, for a name too long for the system is one that is not there.
    return next((path for path in candidates if os.path.exists(path)), None), candidates  # noqa: PTH110
