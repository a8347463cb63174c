"""Commands of a PowerShell script, with its variables, lists and conditions; nothing is run."""

import re
from typing import Any

from frisket.importers.shells.powershell.terms import CALL, CAST, NAME, WORD, Terms, key_of
from frisket.importers.shells.powershell.values import NULL, added, text_of
from frisket.importers.shells.words import Command, Word, clean, counted, hole

_ASSIGN = re.compile(r"\s*(\+?=)(?!=)")
_LOOPS = ("foreach", "for", "while", "switch", "do", "catch")
_END = "\n;|})"
_SPLAT = re.compile(r"@(\w+)")
_AFTER = (" ", "\t", "\n", ";", "|", ")", "}", "`", "")  # what may follow an argument


def read_script(text: str) -> list[Command]:
    """The commands of a script, words as a program is given them. Raises Unreadable."""
    reader = _Reader(clean(text))
    reader.block(top=True)
    return reader.commands


class _Reader(Terms):
    """One pass over a script."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.commands: list[Command] = []
        self.folder = ""

    def block(self, *, top: bool = False) -> None:
        """Statements up to a `}`, or to the end."""
        self._deeper()
        while True:
            self._blank(lines=True)
            if self.at >= len(self.text):
                break
            if self._peek() == "}":
                self.at += 1
                if not top:
                    break
                continue
            before = self.at
            self._statement()
            if self.at == before:
                self.at += 1
        self.depth -= 1

    def _braced(self, truth: bool | None) -> None:
        """A `{ ... }` that counts as far as `truth` says; nothing where none stands here."""
        self._blank(lines=True)
        if self._peek() == "{":
            self.at += 1
            self.branches.begin(truth)
            self.block()
            self.branches.end()

    def _statement(self) -> None:
        word = self._match(WORD)
        name = word[0].lower() if word else ""
        if word and name == "if":
            self.at = word.end()
            self._if(self._block_of_if)
        elif word and name in _LOOPS:
            self.at = word.end()
            self._loop()
        elif word and name in ("function", "try", "finally", "else", "param", "return", "exit"):
            self._other(word, name)
        elif self._peek() in "$[" or self._peek(2) == "@(":
            self._assignment()
        else:
            self._command()

    def _other(self, word: re.Match[str], name: str) -> None:
        self.at = word.end()
        if name == "param":
            self._skip_brackets()
        elif name in ("return", "exit"):
            self._rest()
        else:
            end = self.text.find("{", self.at)
            self.at = end if end >= 0 else len(self.text)
            self._braced(True)

    def _loop(self) -> None:
        self._blank()
        if self._peek() == "(":
            if found := re.compile(r"\(\s*\$(\w+)\s+in\b").match(self.text, self.at):
                self.names[found[1].lower()] = hole(f"${found[1]}")
            self._skip_brackets()
        self._braced(None)

    def _block_of_if(self, truth: bool | None) -> None:
        self._braced(truth)

    def _assignment(self) -> None:
        """`$x = ...`, `$x += ...`, `$x.Add(...)`; anything else of the kind changes nothing."""
        while cast := self._match(CAST):
            self.at = cast.end()
            self._blank()
        target = self._match(NAME)
        if not target:
            self._rest()
            return
        self.at = target.end()
        key = key_of(target)
        if sign := self._match(_ASSIGN):
            self.at = sign.end()
            value = self._list()
            self._set(key, added(self._get(key, target[0]), value) if sign[1] == "+=" else value)
        elif (call := self._match(CALL)) and call[1].lower() in ("add", "addrange"):
            self.at = call.end()
            value = self._bracketed() if self._peek() == "(" else NULL
            self._append(key, value)
        self._rest()

    def _append(self, key: str, value: Any) -> None:
        old = self.names.get(key)
        if self.branches.active is not False and isinstance(old, list):
            values = value if isinstance(value, list) else [value]
            certain = self.branches.active is True
            old.extend(values if certain else [hole(text_of(each)) for each in values])
            counted(old, self.line)

    def _set(self, key: str, value: Any) -> None:
        active = self.branches.active
        if isinstance(value, list):
            counted(value, self.line)
        self._grow(text_of(value))
        if active is True:
            self.names[key] = list(value) if isinstance(value, list) else value
        elif active is None and value != self.names.get(key):
            self.names[key] = hole(f"${key}")

    def _command(self) -> None:
        self._step()
        if self._peek() in "&." and self._peek(2)[1:] in (" ", '"', "'", "$"):
            self.at += 1
        words = self._read_arguments()
        if self._peek() in "|&)" and self._peek():
            self.at += 1
        counted(words, self.line)
        active = self.branches.active
        if words and words[0].text.lower() in ("cd", "set-location", "push-location"):
            self.folder = words[-1].text if len(words) > 1 else self.folder
        elif words and active is not False:
            self.commands.append(Command(tuple(words), self.folder))

    def _read_arguments(self) -> list[Word]:
        """The words of a command, up to its end."""
        words: list[Word] = []
        while True:
            self._blank()
            letter = self._peek()
            if not letter or letter in _END or self._peek(2) == "&&":
                return words
            before = self.at
            self._step()
            words += self._argument()
            if self.at == before:
                self.at += 1

    def _argument(self) -> list[Word]:
        """The words that an argument becomes: several for a list."""
        line = self.line
        if name := self._match(_SPLAT):
            self.at = name.end()
            return _words(self._get(name[1].lower(), name[0]), line)
        text, alone = "", True
        while not self._ends_argument():
            if (quoted := self._read_quoted()) is not None:
                text, alone = text + quoted, False
            elif self._opens_bracket():
                self.at += self._peek() != "("
                value = self._bracketed()
                if alone and not text:
                    return _words(value, line)
                text += text_of(value)
            elif name := self._match(NAME):
                self.at = name.end()
                value = self._get(key_of(name), name[0])
                if alone and not text and self._peek() in _AFTER:
                    return _words(value, line)
                text, alone = text + text_of(value), False
            else:
                text += self._peek()
                self.at += 1
        self._grow(text)
        return [] if text in ("2>&1", "*>&1") else [Word(text, line)]

    def _ends_argument(self) -> bool:
        letter = self._peek()  # empty at the end of the script, and so in every text
        return letter in " \t\n;|)}" or self._peek(2) == "`\n"

    def _opens_bracket(self) -> bool:
        return self._peek() == "(" or self._peek(2) in ("$(", "@(")

    def _read_quoted(self) -> str | None:
        """Text in quotes, or the letter behind a backtick; None for anything else."""
        if self._peek() == "`":
            return self._expanded()
        return self._string() if self._peek() in "'\"" else None


def _words(value: Any, line: int) -> list[Word]:
    values = value if isinstance(value, list) else [value]
    return [Word(text_of(each), line) for each in values if each is not NULL and each != ""]
