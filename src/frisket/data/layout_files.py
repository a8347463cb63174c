"""Reads the files that other trainers are configured by, and finds what their paths name."""

import codecs
import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml  # type: ignore[import-untyped]

from frisket.data.layout_base import BadLayout
from frisket.data.toml_lines import Key, lines_of

LARGEST = 8 * 2**20  # bytes: a configuration is text written by hand, not a data set
SUFFIXES = (".toml", ".json", ".yaml", ".yml")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],\n]')  # of JSON, but for colons and plain values
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


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


def dotted(key: Key) -> str:
    """A key as its reader would say it: `datasets[0].subsets[1].image_dir`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return "".join(parts).removeprefix(".")


def read_config(path: Path) -> Written:
    """Parse a TOML, JSON or YAML file, told apart by suffix.

    UTF-8 with or without byte-order mark. Raises BadLayout for a file that is not there, is larger
    than 8 MiB, is of another encoding, or does not parse (with line and column).
    """
    readers: dict[str, Callable[[str, Path], tuple[Any, Mapping[Key, int]]]] = {
        ".toml": _toml,
        ".json": _json,
        ".yaml": _yaml,
        ".yml": _yaml,
    }
    if path.suffix.lower() not in readers:
        raise BadLayout(f"{path}: a configuration ends in one of {', '.join(SUFFIXES)}")
    tree, lines = readers[path.suffix.lower()](_text(path), path)
    return Written(path, tree, lines)


def peek(path: Path) -> Any:
    """The parsed tree, or None for anything that is no readable configuration: for `suits`."""
    try:
        return read_config(path).tree if path.is_file() else None
    except BadLayout:
        return None


def _text(path: Path) -> str:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise BadLayout(
                f"{path}: {size / 2**20:.0f} MiB is too large for a configuration (at most"
                f" {LARGEST / 2**20:.0f}); name the configuration, not the data"
            )
        raw = path.read_bytes()
    except FileNotFoundError as error:
        raise BadLayout(f"{path}: there is no such file") from error
    except OSError as error:
        raise BadLayout(f"{path}: cannot be read ({error.strerror})") from error
    if raw.startswith(_UTF16) or b"\0" in raw:
        raise BadLayout(f"{path}: is UTF-16 or binary; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadLayout(
            f"{path} line {line}: byte 0x{raw[error.start]:02x} is not UTF-8; save the file as"
            " UTF-8"
        ) from error


def _toml(text: str, path: Path) -> tuple[Any, Mapping[Key, int]]:
    try:
        return tomllib.loads(text), lines_of(text)
    except tomllib.TOMLDecodeError as error:
        said, _, place = str(error).partition(" (at ")
        at = re.match(r"line (\d+), column (\d+)", place)
        lines = text.rstrip().split("\n")
        line, column = (int(at[1]), int(at[2])) if at else (len(lines), len(lines[-1]) + 1)
        raise _unparsed(path, "TOML", said, line, column, lines) from error


def _json(text: str, path: Path) -> tuple[Any, Mapping[Key, int]]:
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        lines = text.split("\n")
        raise _unparsed(path, "JSON", error.msg, error.lineno, error.colno, lines) from error
    except RecursionError as error:
        raise BadLayout(f"{path}: is nested too deeply for a configuration") from error
    return tree, _json_lines(text)


def _json_lines(text: str) -> dict[Key, int]:
    """The line of every key, and of every table or list in a list, of a valid JSON text."""
    found: dict[Key, int] = {}
    path: list[str | int] = []  # the key or index that is open in each table and list around
    keyed = False  # within a table, before a key
    line = 1
    for token in _TOKEN.findall(text):
        if token == "\n":
            line += 1
        elif token in "{[":
            if path:
                found.setdefault(tuple(path), line)
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
            found.setdefault(tuple(path), line)
    return found


def _yaml(text: str, path: Path) -> tuple[Any, Mapping[Key, int]]:
    try:
        tree = yaml.safe_load(text)
        return tree, dict(_marks(yaml.compose(text, Loader=yaml.SafeLoader)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = error.problem or error.context or "cannot be read"
        raise _unparsed(path, "YAML", said, line, column, text.split("\n")) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise BadLayout(f"{path}: not valid YAML: {error}") from error


def _unparsed(
    path: Path, form: str, said: str, line: int, column: int, lines: list[str]
) -> BadLayout:
    shown = lines[line - 1].strip()[:120] if line <= len(lines) else ""
    hint = ""
    if form == "TOML" and "\\" in shown:
        hint = "; write paths with / or in 'single quotes'"
    elif form == "JSON" and "\\" in shown:
        hint = "; write paths with / or with \\\\"
    return BadLayout(
        f"{path} line {line}, column {column}: not valid {form}: {said}{hint}\n    {shown}"
    )


def _marks(node: Any, key: Key = ()) -> Iterator[tuple[Key, int]]:
    """The line of every key below a YAML node; what an alias repeats is left out."""
    pairs: list[tuple[str | int, Any, Any]] = []
    if isinstance(node, yaml.MappingNode):
        pairs = [(str(name.value), name, value) for name, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        pairs = [(number, value, value) for number, value in enumerate(node.value)]
    for part, mark, value in pairs:
        yield (*key, part), mark.start_mark.line + 1
        if value.start_mark.index > node.start_mark.index:  # an alias points back
            yield from _marks(value, (*key, part))


def place(written: str, base: Path) -> tuple[Path | None, list[Path]]:
    r"""What a path in a configuration names, and the places that were tried for it.

    Absolute paths and `~` are taken as they are; relative ones from `base`, the configuration's
    folder, then from the current folder, where these trainers are started. An absolute path that is
    not here, of another machine or system (`C:\data\set\clips`), is looked for below `base` and
    the folder around it by its own last parts, the most of them first.
    """
    windows = re.match(r"[A-Za-z]:[\\/]|\\\\", written) or "/" not in written
    pure = PureWindowsPath(written) if windows else PurePosixPath(written)
    own = Path(pure.as_posix()).expanduser()
    tried = [own] if own.is_absolute() else []
    if pure.is_absolute():
        tails = [Path(*pure.parts[n:]) for n in range(1, len(pure.parts))]
        tried += [root / tail for tail in tails for root in (base, base.parent)]
    else:
        tried += [base / own, Path.cwd() / own]
    tried = list(dict.fromkeys(tried))
    # os.path.exists, for a name too long for the system is one that is not there.
    return next((each for each in tried if os.path.exists(each)), None), tried  # noqa: PTH110
