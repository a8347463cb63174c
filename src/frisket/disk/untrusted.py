"""Text that a stranger may have written: read within limits, parsed to plain trees, shown in brief.

Configurations, other trainers' files, annotations, legends and metadata all come through here, so
that none can stop a command with anything but a sentence: not by size, depth, endless numbers,
or a parser's own way of failing.
"""

import codecs
import json
import re
import reprlib
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring
from xml.parsers import expat

MIB = 1 << 20
CONFIG = MIB  # bytes: a configuration is written by hand
MODEL = 64 * MIB  # bytes: what lies beside a model's weights
ANNOTATIONS = 512 * MIB  # bytes: of a whole data set
DEEPEST = 64  # tables and lists within each other
LARGEST = 1 << 64  # whole numbers are below it
_KEY = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')"""
# tomllib's time grows with the square of the parts of one key.
_LONG_KEY = re.compile(rf"(?<![\w-]){_KEY}(?:[ \t]*\.[ \t]*{_KEY}){{{DEEPEST},}}")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxother, _BRIEF.maxlong = 4, 160, 160, 160


class BadText(ValueError):
    """Text that cannot be used: `message`, the fault and its fix, at `line` and `column`."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        """Lines and columns count from 1; None where no place is known."""
        place = f" at line {line}, column {column}" if line else ""
        super().__init__(message + place)
        self.message, self.line, self.column = message, line, column


def cut(text: str, width: int = 200) -> str:
    """The text in at most `width` letters, ending in "..." where some are left out."""
    return text if len(text) <= width else text[: width - 3] + "..."


def show(value: Any, width: int = 80) -> str:
    """`repr` of a value in at most `width` letters, without writing out what is left out."""
    try:
        return cut(_BRIEF.repr(value), width)
    except Exception:
        return f"a {type(value).__name__}"


def read_text(path: Path, most: int = CONFIG) -> str:
    """The text of a UTF-8 file (a byte-order mark is left out) of at most `most` bytes.

    Raises as `read_bytes`, and BadText for another encoding, with the line where one is known.
    """
    return decode(read_bytes(path, most))


def read_bytes(path: Path, most: int = CONFIG) -> bytes:
    """The content of a file of at most `most` bytes.

    Raises BadText for what is no file (pipes are never opened) or larger; OSError where it is not
    there or may not be read.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "something else")
        raise BadText(f"is {kind}, a file is needed")
    with path.open("rb") as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        size = max(path.stat().st_size, len(raw)) / MIB
        raise BadText(f"has {size:.1f} MiB, at most {most / MIB:g} are read; is it the right file?")
    return raw


def decode(raw: bytes) -> str:
    """Bytes as UTF-8 text without byte-order mark; BadText with the line for another encoding."""
    if raw.startswith(_UTF16):
        raise BadText("is UTF-16; save it as UTF-8")
    if b"\0" in raw:
        raise BadText(
            "is UTF-16 or binary (it holds NUL bytes); save it as UTF-8", *_locate(raw, b"\0")
        )
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise BadText(message, line, column) from error


def _locate(raw: bytes, part: bytes) -> tuple[int, int]:
    place = raw.index(part)
    return raw.count(b"\n", 0, place) + 1, place - raw.rfind(b"\n", 0, place)


def parse_toml(text: str) -> dict[str, Any]:
    """The tree of a TOML text; BadText with line and column for what is none, or past a limit."""
    if match := _LONG_KEY.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise BadText(f"a key of more than {DEEPEST} parts", line, 1)
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).partition(" (at ")
        at = re.match(r"line (\d+), column (\d+)", place)
        lines = text.rstrip().split("\n")
        line, column = (int(at[1]), int(at[2])) if at else (len(lines), len(lines[-1]) + 1)
        raise BadText(cut(message), line, column) from error
    except Exception as error:
        raise wrap_error(error) from error
    check_tree(tree)
    return tree


def parse_json(
    text: str | bytes, *, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """The tree of a JSON text; BadText, with line and column where the grammar fails.

    What `object_pairs_hook` (as of `json.loads`) raises of our own classes passes.
    """
    try:
        tree = json.loads(text, object_pairs_hook=object_pairs_hook)
    except json.JSONDecodeError as error:
        raise BadText(cut(error.msg), error.lineno, error.colno) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] == "frisket":
            raise
        raise wrap_error(error) from error
    check_tree(tree)
    return tree


def read_table(path: Path, most: int = MODEL) -> dict[str, Any]:
    """The object in a JSON file, such as a model's config.json; BadText names the file and fix."""
    try:
        tree = parse_json(read_text(path, most))
    except BadText as error:
        raise BadText(f"{path}: {error}; fetch it again, or restore it") from error
    if not isinstance(tree, dict):
        raise BadText(f"{path}: is {show(tree, 40)}, a table is needed; fetch it again")
    return tree


def parse_xml(raw: bytes) -> Element:
    """The root of an XML text without a document type; BadText for what is none, or has one.

    A document type is where entities are declared, which multiply or name other files; no program
    writes one into its data.
    """
    checked = expat.ParserCreate()
    checked.StartDoctypeDeclHandler = _refuse_doctype
    try:
        checked.Parse(raw, True)
        return fromstring(raw)
    except BadText:
        raise
    except (expat.ExpatError, ParseError) as error:
        raise BadText(cut(str(error))) from error
    except Exception as error:
        raise wrap_error(error) from error


def _refuse_doctype(*_: Any) -> None:
    raise BadText("declares a document type, which data has no use for; remove <!DOCTYPE ...>")


def wrap_error(error: Exception) -> BadText:
    """What a parser raised besides its own class, as BadText, to be raised."""
    if isinstance(error, RecursionError):
        return BadText(f"is nested too deeply (at most {DEEPEST} tables or lists in each other)")
    if "4300" in str(error) or isinstance(error, OverflowError):
        return BadText("holds a number too large to be one")
    return BadText(f"cannot be parsed ({cut(str(error) or type(error).__name__)})")


def check_tree(tree: Any) -> None:
    """Raise BadText for depth, endless numbers and letters that are none, in a parsed tree."""
    level = [tree]
    for _ in range(DEEPEST + 2):  # the values within the deepest are a level too
        if not level:
            return
        level = [inner for value in level for inner in _list_inside(value)]
    raise BadText(f"is nested too deeply (at most {DEEPEST} tables or lists in each other)")


def _list_inside(value: Any) -> Iterator[Any]:
    kind = type(value)
    if kind is dict:
        yield from value
        yield from value.values()
    elif kind in (list, tuple, set):
        yield from value
    elif kind is int and not -LARGEST <= value < LARGEST:
        raise BadText("holds a whole number of more than 64 bits")
    elif kind is str and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise BadText(f"holds half a letter (a lone surrogate): {show(value)}") from error
