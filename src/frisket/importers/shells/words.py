"""What a shell's reader gives: commands in words, with a mark where a value cannot be known."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MOST = 20_000  # words of one file: a script is written by hand
LONGEST = 100_000  # letters of one word
_OPEN, _SHUT = "\ue000", "\ue001"  # private letters around the name of what is not known
_HOLE = re.compile(f"{_OPEN}([^{_SHUT}]*){_SHUT}")


@dataclass(frozen=True, slots=True)
class Word:
    """A word as a program would be given it, and its line (from 1)."""

    text: str
    line: int

    @property
    def unknown(self) -> list[str]:
        """What it is made of that the file does not tell: names of variables, `$(commands)`."""
        return _HOLE.findall(self.text)

    @property
    def label(self) -> str:
        """The word for a reader, variables that are not known by their names."""
        return name_holes(self.text)


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """A command with its words; `folder` is where a `cd` before it went, as it was written."""

    words: tuple[Word, ...]
    folder: str = ""
    cell: int = 0  # of a notebook, from 1
    environment: tuple[tuple[str, str], ...] = ()  # `NAME=value` before it

    @property
    def line(self) -> int:
        """Its first line (from 1)."""
        return self.words[0].line


class UnreadableScript(ValueError):
    """Text that no shell would take; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        """Say what is wrong and where."""
        super().__init__(message)
        self.message, self.line = message, line


def mark_hole(name: str) -> str:
    """Text that stands for a value which the file does not tell."""
    return f"{_OPEN}{name}{_SHUT}"


def is_known(text: str) -> bool:
    """Whether nothing in a text is left open."""
    return _OPEN not in text


def name_holes(text: str) -> str:
    """A text for a reader: what is open by its name."""
    return _HOLE.sub(lambda match: match[1], text)


def drop_holes(text: str) -> str:
    """A text with nothing in place of what is open, as a shell has it for a variable not set."""
    return _HOLE.sub("", text)


def clean(text: str) -> str:
    """A file's text with unix line ends, and marks only for letters that are not UTF-8."""
    unix_text = text.replace("\r\n", "\n").replace(_OPEN, "\ufffd").replace(_SHUT, "\ufffd")
    return re.sub("\ufffd+", mark_hole("\N{WHITE SQUARE}"), unix_text)


def compare(left: str, test: str, right: str) -> bool | None:
    """Whether a test of two values holds; None where that is open, or the test is not known."""
    if not (is_known(left) and is_known(right)):
        return None
    numbers: Mapping[str, Callable[[float, float], bool]] = {
        "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b,
        "gt": lambda a, b: a > b,
        "ge": lambda a, b: a >= b,
        "eq": lambda a, b: a == b,
        "ne": lambda a, b: a != b,
    }
    if test in ("=", "==", "!="):
        return (left == right) is (test != "!=")
    try:
        return numbers[test.lstrip("-").lower()](float(left or 0), float(right or 0))
    except (KeyError, ValueError):
        return None


def combine_and(left: bool | None, right: bool | None) -> bool | None:
    """`and` of three values."""
    if left is False or right is False:
        return False
    return None if None in (left, right) else True


def combine_or(left: bool | None, right: bool | None) -> bool | None:
    """`or` of three values."""
    if left is True or right is True:
        return True
    return None if None in (left, right) else False


def check_count(words: Sequence[object], line: int) -> None:
    """Refuse more words than anybody writes."""
    if len(words) > MOST:
        raise UnreadableScript(f"holds more than {MOST:,} words; is it the right file?", line)
