"""The values in a PowerShell script: variables, text, numbers, lists, comparisons."""

import re
from collections.abc import Callable
from typing import Any

from frisket.importers.shells.branches import Branches
from frisket.importers.shells.powershell.values import NULL, added, compare, text_of, truth_of
from frisket.importers.shells.words import LONGEST, Unreadable, both, counted, hole

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
        self.starts = [found.end() for found in re.finditer("\n", text)]

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

    def _blank(self, *, lines: bool = False) -> None:
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
            raise Unreadable(f"more than {VALUES:,} values; is it the right file?", self.line)

    def _deeper(self) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise Unreadable(f"more than {_DEEPEST} brackets within each other", self.line)

    def _skip_brackets(self) -> None:
        """Pass `( ... )`, whatever stands in it but for brackets and quotes."""
        self._blank(lines=True)
        depth = 0
        while self.at < len(self.text):
            letter = self._peek()
            if letter in "'\"":
                self._string()
                continue
            depth += (letter == "(") - (letter == ")")
            self.at += 1
            if depth <= 0:
                return

    def _rest(self) -> None:
        """Pass what is left of a statement, with all brackets that it opens."""
        open_brackets = 0
        while self.at < len(self.text):
            letter = self._peek()
            if not open_brackets and letter in "\n;)}":
                return
            if letter in "'\"":
                self._string()
            elif letter == "#" or self._peek(2) in ("<#", "`\n"):
                self._blank()
            else:
                open_brackets += (letter in "({") - (letter in ")}")
                self.at += 1

    def _if(self, part: Callable[[bool | None], Any]) -> Any:
        """`if (...) {...} elseif ... else ...`; `part` reads a block, given whether it counts."""
        truth = self._condition()
        taken, found = truth, part(truth)
        while True:
            before = self.at
            self._blank(lines=True)
            word = self._match(WORD)
            name = word[0].lower() if word else ""
            if word is None or name not in ("elseif", "else"):
                self.at = before
                return found
            self.at = word.end()
            asked = self._condition() if name == "elseif" else True
            counts = both(None if taken is None else not taken, asked)
            inner = part(counts)
            found = inner if counts is True else found if counts is False else hole("if")
            taken = (
                True
                if taken is True or asked is True
                else None
                if None in (taken, asked)
                else False
            )

    def _condition(self) -> bool | None:
        self._blank(lines=True)
        if self._peek() != "(":
            return None
        return truth_of(self._bracketed())

    def _value_of_if(self, truth: bool | None) -> Any:
        self._blank(lines=True)
        if self._peek() != "{":
            return NULL
        self.at += 1
        self._blank(lines=True)
        value = self._expression()
        self._blank(lines=True)
        self.at += self._peek() == "}"
        return value

    def _grow(self, text: str) -> None:
        self.grown += len(text)
        if self.grown > 100 * LONGEST:
            raise Unreadable("its variables become too long; is it the right file?", self.line)

    def _get(self, key: str, written: str) -> Any:
        if key in self.names:
            return self.names[key]
        if key.startswith("env:"):
            return _ENV.get(key[4:], hole(written))
        return hole(written) if key in ("args", "_", "input") else _PLACES.get(key, NULL)

    def _list(self) -> Any:
        """An expression, or several with commas between them."""
        self._blank(lines=True)
        word = self._match(WORD)
        if word and word[0].lower() == "if":
            self.at = word.end()
            return self._if(self._value_of_if)
        first = self._expression()
        values = [first]
        self._blank()
        while self._peek() == ",":
            self.at += 1
            self._blank(lines=True)
            values.append(self._expression())
            self._blank()
        return first if len(values) == 1 else values

    def _expression(self) -> Any:
        """Values joined by `+` and signs such as `-eq`, `-and`: from left to right."""
        self._deeper()
        value = self._comparison()
        while True:
            self._blank()
            sign = self._match(_SIGN)
            word = sign[1].lower() if sign else ""
            if sign is None or word not in ("and", "or"):
                self.depth -= 1
                return value
            self.at = sign.end()
            right = truth_of(self._comparison())
            left = truth_of(value)
            if word == "or":
                found = (
                    None
                    if None in (left, right) and True not in (left, right)
                    else (left is True or right is True)
                )
            else:
                found = both(left, right)
            value = hole("-and") if found is None else found

    def _comparison(self) -> Any:
        value = self._term()
        while True:
            self._blank()
            sign = self._match(_SIGN)
            word = sign[1].lower() if sign else ""
            if sign is not None and word not in ("and", "or"):
                self.at = sign.end()
                self._blank()
                value = compare(value, word, self._list_of_terms())
            elif self._peek() == "+" and self._peek(2) != "+=":
                self.at += 1
                self._blank(lines=True)
                value = added(value, self._term())
            elif self._peek() in "*/%" and self._peek():
                self.at += 1
                self._term()
                value = hole("a calculation")
            else:
                return value

    def _list_of_terms(self) -> Any:
        values = [self._term()]
        self._blank()
        while self._peek() == ",":
            self.at += 1
            self._blank(lines=True)
            values.append(self._term())
            self._blank()
        return values[0] if len(values) == 1 else values

    def _term(self) -> Any:
        self._step()
        self._blank()
        while cast := self._match(CAST):
            self.at = cast.end()
            if self._peek(2) == "::":
                return self._made()
        letter = self._peek()
        if letter == "!" or (self._match(_SIGN) and self._peek(4).lower() == "-not"):
            self.at += 1 if letter == "!" else 4
            truth = truth_of(self._term())
            return hole("-not") if truth is None else not truth
        value = self._plain(letter)
        while self._peek() == "." and self._match(CALL):  # a method or property: not known
            call = self._match(CALL)
            self.at = call.end() if call else self.at
            if self._peek() == "(":
                self._skip_brackets()
            value = hole("a method")
        return value

    def _made(self) -> Any:
        """What `[Type]::new()` gives: a list, of types that are one."""
        before = self.text[max(0, self.at - 60) : self.at].lower()
        self.at += 2
        if word := self._match(WORD):
            self.at = word.end()
        if self._peek() == "(":
            self._skip_brackets()
        return [] if "list]" in before or "[]]" in before else hole("[...]::new()")

    def _plain(self, letter: str) -> Any:
        if letter and letter in "'\"":
            return self._string()
        if name := self._match(NAME):
            self.at = name.end()
            return self._get(key_of(name), name[0])
        if number := self._match(_NUMBER):
            self.at = number.end()
            text = number[0]
            return int(text) if re.fullmatch(r"-?\d{1,18}", text) else float(text)
        if self._peek(2) in ("@(", "$("):
            return self._within(letter)
        if letter == "(":
            return self._bracketed()
        self._rest()
        return hole("...")

    def _within(self, sign: str) -> Any:
        """The value of `$( ... )`, or the list of `@( ... )`."""
        self.at += 1
        inner = self._bracketed()
        if sign == "$" or isinstance(inner, list):
            return inner
        return [] if inner is NULL else [inner]

    def _bracketed(self) -> Any:
        """The value within `( ... )`, which may take several lines."""
        self.at += 1
        self._deeper()
        self._blank(lines=True)
        values: list[Any] = []
        several = False
        while self.at < len(self.text) and self._peek() != ")":
            before = self.at
            values.append(self._expression())
            self._blank(lines=True)
            if self._peek() == ",":
                several = True
                self.at += 1
                self._blank(lines=True)
            if self.at == before:
                self.at += 1
        self.at = min(self.at + 1, len(self.text))
        self.depth -= 1
        counted(values, self.line)
        return values if several or len(values) > 1 else values[0] if values else NULL

    def _string(self) -> str:
        quote, begun = self._peek(), self.line
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
                out.append(self._expanded())
            else:
                out.append(letter)
                self.at += 1
        raise Unreadable(f"the quote {quote} that begins here is never closed", begun)

    def _expanded(self) -> str:
        """What a backtick or a `$` in text stands for."""
        if self._peek() == "`":
            after = self.text[self.at + 1 : self.at + 2]
            self.at += 2
            return _ESCAPES.get(after, after)
        if self._peek(2) == "$(":
            self.at += 1
            return text_of(self._bracketed())
        if name := self._match(NAME):
            self.at = name.end()
            return text_of(self._get(key_of(name), name[0]))
        self.at += 1
        return "$"


def key_of(name: re.Match[str]) -> str:
    """The name a variable is kept under, of what NAME found: letters' case does not matter."""
    plain = (name[1] if name[1] is not None else name[3]).lower()
    return f"env:{plain}" if (name[2] or "").lower() == "env" else plain
