"""The values in a PowerShell script: variables, text, numbers, lists, comparisons."""

import re
from collections.abc import Callable
from typing import Any

from frisket.importers.shells.branches import Branches
from frisket.importers.shells.powershell.values import NULL, add_values, as_text, as_truth, compare
from frisket.importers.shells.words import (
    LONGEST,
    UnreadableScript,
    check_count,
    combine_and,
    mark_hole,
)

NAME = re.compile(r"\$(?:\{([^}\n]*)\}|(?:(env|global|script):)?(\w+|[?^$]))", re.IGNORECASE)
CAST = re.compile(r"\[[\w.]+(?:\[\])?\]")
WORD = re.compile(r"[A-Za-z][\w-]*")
_NUMBER = re.compile(r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.])")
_SIGN = re.compile(r"-([A-Za-z]+)\b")
CALL = re.compile(r"\.(\w+)")
_ESCAPES = {"n": "\n", "t": "\t", "0": "\0", "r": "\r"}
_PLACES = {"psscriptroot": ".", "pwd": ".", "home": "~", "true": True, "false": False, "null": NULL}
_ENV = {"userprofile": "~", "home": "~"}
_DEEPEST = 60  # blocks and brackets within each other
VALUES = 10_000  # of one script: a long one has two thousand


class Terms:
    """A place in a script, the variables so far, and the values that begin there."""

    def __init__(self, text: str) -> None:
        """Begin at the first letter, with no variable set."""
        self.text, self.at = text, 0
        self.names: dict[str, Any] = {}
        self.branches = Branches()
        self.depth = 0
        self.grown = 0
        self.steps = 0
        self.starts = [match.end() for match in re.finditer("\n", text)]

    @property
    def line(self) -> int:
        """The present line (from 1)."""
        low, high = 0, len(self.starts)
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if self.starts[middle] <= self.at else (low, middle)
        return low + 1

    def _peek(self, count: int = 1) -> str:
        return self.text[self.at : self.at + count]

    def _match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return pattern.match(self.text, self.at)

    def _skip_blank(self, *, lines: bool = False) -> None:
        """Pass blanks, comments and lines that go on; with `lines` also line ends and `;`."""
        while self.at < len(self.text):
            if self._peek(2) == "`\n":
                self.at += 2
            elif self._peek(2) == "<#":
                end = self.text.find("#>", self.at)
                self.at = end + 2 if end >= 0 else len(self.text)
            elif self._peek() == "#":
                end = self.text.find("\n", self.at)
                self.at = end if end >= 0 else len(self.text)
            elif self._peek() in (" ", "\t", "\ufeff") or (lines and self._peek() in ("\n", ";")):
                self.at += 1
            else:
                return

    def _step(self) -> None:
        """Count a value or a command: a script is written by hand."""
        self.steps += 1
        if self.steps > VALUES:
            raise UnreadableScript(f"more than {VALUES:,} values; is it the right file?", self.line)

    def _count_depth(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise UnreadableScript(f"more than {_DEEPEST} brackets within each other", self.line)

    def _skip_brackets(self) -> None:
        """Pass `( ... )`, whatever stands in it but for brackets and quotes."""
        self._skip_blank(lines=True)
        depth = 0
        while self.at < len(self.text):
            letter = self._peek()
            if letter in "'\"":
                self._read_string()
                continue
            depth += (letter == "(") - (letter == ")")
            self.at += 1
            if depth <= 0:
                return

    def _skip_rest(self) -> None:
        """Pass what is left of a statement, with all brackets that it opens."""
        open_brackets = 0
        while self.at < len(self.text):
            letter = self._peek()
            if not open_brackets and letter in "\n;)}":
                return
            if letter in "'\"":
                self._read_string()
            elif letter == "#" or self._peek(2) in ("<#", "`\n"):
                self._skip_blank()
            else:
                open_brackets += (letter in "({") - (letter in ")}")
                self.at += 1

    def _read_if(self, part: Callable[[bool | None], Any]) -> Any:
        """`if (...) {...} elseif ... else ...`; `part` reads a block, given whether it counts."""
        truth = self._condition()
        taken, result = truth, part(truth)
        while True:
            before = self.at
            self._skip_blank(lines=True)
            word = self._match(WORD)
            name = word[0].lower() if word else ""
            if word is None or name not in ("elseif", "else"):
                self.at = before
                return result
            self.at = word.end()
            condition = self._condition() if name == "elseif" else True
            counts = combine_and(None if taken is None else not taken, condition)
            inner = part(counts)
            result = inner if counts is True else result if counts is False else mark_hole("if")
            taken = (
                True
                if taken is True or condition is True
                else None
                if None in (taken, condition)
                else False
            )

    def _condition(self) -> bool | None:
        self._skip_blank(lines=True)
        if self._peek() != "(":
            return None
        return as_truth(self._read_bracketed())

    def _read_if_value(self, truth: bool | None) -> Any:
        self._skip_blank(lines=True)
        if self._peek() != "{":
            return NULL
        self.at += 1
        self._skip_blank(lines=True)
        value = self._read_expression()
        self._skip_blank(lines=True)
        self.at += self._peek() == "}"
        return value

    def _grow(self, text: str) -> None:
        self.grown += len(text)
        if self.grown > 100 * LONGEST:
            raise UnreadableScript(
                "its variables become too long; is it the right file?", self.line
            )

    def _get(self, key: str, text: str) -> Any:
        if key in self.names:
            return self.names[key]
        if key.startswith("env:"):
            return _ENV.get(key[4:], mark_hole(text))
        return mark_hole(text) if key in ("args", "_", "input") else _PLACES.get(key, NULL)

    def _read_list(self) -> Any:
        """An expression, or several with commas between them."""
        self._skip_blank(lines=True)
        word = self._match(WORD)
        if word and word[0].lower() == "if":
            self.at = word.end()
            return self._read_if(self._read_if_value)
        first = self._read_expression()
        values = [first]
        self._skip_blank()
        while self._peek() == ",":
            self.at += 1
            self._skip_blank(lines=True)
            values.append(self._read_expression())
            self._skip_blank()
        return first if len(values) == 1 else values

    def _read_expression(self) -> Any:
        """Values joined by `+` and signs such as `-eq`, `-and`: from left to right."""
        self._count_depth()
        value = self._read_comparison()
        while True:
            self._skip_blank()
            sign = self._match(_SIGN)
            word = sign[1].lower() if sign else ""
            if sign is None or word not in ("and", "or"):
                self.depth -= 1
                return value
            self.at = sign.end()
            right = as_truth(self._read_comparison())
            left = as_truth(value)
            if word == "or":
                truth = (
                    None
                    if None in (left, right) and True not in (left, right)
                    else (left is True or right is True)
                )
            else:
                truth = combine_and(left, right)
            value = mark_hole("-and") if truth is None else truth

    def _read_comparison(self) -> Any:
        value = self._read_term()
        while True:
            self._skip_blank()
            sign = self._match(_SIGN)
            word = sign[1].lower() if sign else ""
            if sign is not None and word not in ("and", "or"):
                self.at = sign.end()
                self._skip_blank()
                value = compare(value, word, self._read_term_list())
            elif self._peek() == "+" and self._peek(2) != "+=":
                self.at += 1
                self._skip_blank(lines=True)
                value = add_values(value, self._read_term())
            elif self._peek() in "*/%" and self._peek():
                self.at += 1
                self._read_term()
                value = mark_hole("a calculation")
            else:
                return value

    def _read_term_list(self) -> Any:
        values = [self._read_term()]
        self._skip_blank()
        while self._peek() == ",":
            self.at += 1
            self._skip_blank(lines=True)
            values.append(self._read_term())
            self._skip_blank()
        return values[0] if len(values) == 1 else values

    def _read_term(self) -> Any:
        self._step()
        self._skip_blank()
        while cast := self._match(CAST):
            self.at = cast.end()
            if self._peek(2) == "::":
                return self._read_new()
        letter = self._peek()
        if letter == "!" or (self._match(_SIGN) and self._peek(4).lower() == "-not"):
            self.at += 1 if letter == "!" else 4
            truth = as_truth(self._read_term())
            return mark_hole("-not") if truth is None else not truth
        value = self._read_plain(letter)
        while self._peek() == "." and self._match(CALL):  # a method or property: not known
            call = self._match(CALL)
            self.at = call.end() if call else self.at
            if self._peek() == "(":
                self._skip_brackets()
            value = mark_hole("a method")
        return value

    def _read_new(self) -> Any:
        """What `[Type]::new()` gives: a list, of types that are one."""
        before = self.text[max(0, self.at - 60) : self.at].lower()
        self.at += 2
        if word := self._match(WORD):
            self.at = word.end()
        if self._peek() == "(":
            self._skip_brackets()
        return [] if "list]" in before or "[]]" in before else mark_hole("[...]::new()")

    def _read_plain(self, letter: str) -> Any:
        if letter and letter in "'\"":
            return self._read_string()
        if name := self._match(NAME):
            self.at = name.end()
            return self._get(find_key(name), name[0])
        if number := self._match(_NUMBER):
            self.at = number.end()
            text = number[0]
            return int(text) if re.fullmatch(r"-?\d{1,18}", text) else float(text)
        if self._peek(2) in ("@(", "$("):
            return self._read_subexpression(letter)
        if letter == "(":
            return self._read_bracketed()
        self._skip_rest()
        return mark_hole("...")

    def _read_subexpression(self, sign: str) -> Any:
        """The value of `$( ... )`, or the list of `@( ... )`."""
        self.at += 1
        inner = self._read_bracketed()
        if sign == "$" or isinstance(inner, list):
            return inner
        return [] if inner is NULL else [inner]

    def _read_bracketed(self) -> Any:
        """The value within `( ... )`, which may take several lines."""
        self.at += 1
        self._count_depth()
        self._skip_blank(lines=True)
        values: list[Any] = []
        is_list = False
        while self.at < len(self.text) and self._peek() != ")":
            before = self.at
            values.append(self._read_expression())
            self._skip_blank(lines=True)
            if self._peek() == ",":
                is_list = True
                self.at += 1
                self._skip_blank(lines=True)
            if self.at == before:
                self.at += 1
        self.at = min(self.at + 1, len(self.text))
        self.depth -= 1
        check_count(values, self.line)
        return values if is_list or len(values) > 1 else values[0] if values else NULL

    def _read_string(self) -> str:
        quote, first_line = self._peek(), self.line
        if self._peek(2) in ("''", '""') and self.text[self.at + 2 : self.at + 3] != quote:
            self.at += 2
            return ""
        self.at += 1
        out: list[str] = []
        while self.at < len(self.text):
            letter = self._peek()
            if letter == quote:
                if self._peek(2) != quote * 2:
                    self.at += 1
                    self._grow("".join(out))
                    return "".join(out)
                out.append(quote)
                self.at += 2
            elif quote == '"' and letter in "`$":
                out.append(self._read_expansion())
            else:
                out.append(letter)
                self.at += 1
        raise UnreadableScript(f"the quote {quote} that begins here is never closed", first_line)

    def _read_expansion(self) -> str:
        """What a backtick or a `$` in text stands for."""
        if self._peek() == "`":
            after = self.text[self.at + 1 : self.at + 2]
            self.at += 2
            return _ESCAPES.get(after, after)
        if self._peek(2) == "$(":
            self.at += 1
            return as_text(self._read_bracketed())
        if name := self._match(NAME):
            self.at = name.end()
            return as_text(self._get(find_key(name), name[0]))
        self.at += 1
        return "$"


def find_key(name: re.Match[str]) -> str:
    """The name a variable is kept under, of what NAME found: letters' case does not matter."""
    key = (name[1] if name[1] is not None else name[3]).lower()
    return f"env:{key}" if (name[2] or "").lower() == "env" else key
