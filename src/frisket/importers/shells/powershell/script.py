"""Commands of a PowerShell script, with its variables, lists and conditions; nothing is run."""

import re
from typing import Any

from frisket.importers.shells.powershell.terms import CALL, CAST, NAME, WORD, Terms, find_key
from frisket.importers.shells.powershell.values import NULL, add_values, as_text
from frisket.importers.shells.words import ShellCommand, Word, check_count, clean, mark_hole

_ASSIGN = re.compile(r"\s*(\+?=)(?!=)")
_LOOPS = ("foreach", "for", "while", "switch", "do", "catch")
_END = "\n;|})"
_SPLAT = re.compile(r"@(\w+)")
_AFTER = (" ", "\t", "\n", ";", "|", ")", "}", "`", "")  # what may follow an argument


def read_script(text: str) -> list[ShellCommand]:
    """The commands of a script, words as a program is given them. Raises UnreadableScript."""
    reader = _Reader(clean(text))
    reader.read_block(top=True)
    return reader.commands


class _Reader(Terms):
    """One pass over a script."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.commands: list[ShellCommand] = []
        self.folder = ""

    def read_block(self, *, top: bool = False) -> None:
        """Statements up to a `}`, or to the end."""
        self._count_depth()
        while True:
            self._skip_blank(lines=True)
            if self.at >= len(self.text):
                break
            if self._peek() == "}":
                self.at += 1
                if not top:
                    break
                continue
            before = self.at
            self._read_statement()
            if self.at == before:
                self.at += 1
        self.depth -= 1

    def _read_braced(self, truth: bool | None) -> None:
        """A `{ ... }` that counts as far as `truth` says; nothing where none stands here."""
        self._skip_blank(lines=True)
        if self._peek() == "{":
            self.at += 1
            self.branches.begin(truth)
            self.read_block()
            self.branches.end()

    def _read_statement(self) -> None:
        word = self._match(WORD)
        name = word[0].lower() if word else ""
        if word and name == "if":
            self.at = word.end()
            self._read_if(self._read_if_block)
        elif word and name in _LOOPS:
            self.at = word.end()
            self._read_loop()
        elif word and name in ("function", "try", "finally", "else", "param", "return", "exit"):
            self._read_other(word, name)
        elif self._peek() in "$[" or self._peek(2) == "@(":
            self._read_assignment()
        else:
            self._read_command()

    def _read_other(self, word: re.Match[str], name: str) -> None:
        self.at = word.end()
        if name == "param":
            self._skip_brackets()
        elif name in ("return", "exit"):
            self._skip_rest()
        else:
            end = self.text.find("{", self.at)
            self.at = end if end >= 0 else len(self.text)
            self._read_braced(True)

    def _read_loop(self) -> None:
        self._skip_blank()
        if self._peek() == "(":
            if match := re.compile(r"\(\s*\$(\w+)\s+in\b").match(self.text, self.at):
                self.names[match[1].lower()] = mark_hole(f"${match[1]}")
            self._skip_brackets()
        self._read_braced(None)

    def _read_if_block(self, truth: bool | None) -> None:
        self._read_braced(truth)

    def _read_assignment(self) -> None:
        """`$x = ...`, `$x += ...`, `$x.Add(...)`; anything else of the kind changes nothing."""
        while cast := self._match(CAST):
            self.at = cast.end()
            self._skip_blank()
        target = self._match(NAME)
        if not target:
            self._skip_rest()
            return
        self.at = target.end()
        key = find_key(target)
        if sign := self._match(_ASSIGN):
            self.at = sign.end()
            value = self._read_list()
            self._set(
                key, add_values(self._get(key, target[0]), value) if sign[1] == "+=" else value
            )
        elif (call := self._match(CALL)) and call[1].lower() in ("add", "addrange"):
            self.at = call.end()
            value = self._read_bracketed() if self._peek() == "(" else NULL
            self._append(key, value)
        self._skip_rest()

    def _append(self, key: str, value: Any) -> None:
        old = self.names.get(key)
        if self.branches.active is not False and isinstance(old, list):
            values = value if isinstance(value, list) else [value]
            is_certain = self.branches.active is True
            old.extend(values if is_certain else [mark_hole(as_text(entry)) for entry in values])
            check_count(old, self.line)

    def _set(self, key: str, value: Any) -> None:
        active = self.branches.active
        if isinstance(value, list):
            check_count(value, self.line)
        self._grow(as_text(value))
        if active is True:
            self.names[key] = list(value) if isinstance(value, list) else value
        elif active is None and value != self.names.get(key):
            self.names[key] = mark_hole(f"${key}")

    def _read_command(self) -> None:
        self._step()
        if self._peek() in "&." and self._peek(2)[1:] in (" ", '"', "'", "$"):
            self.at += 1
        words = self._read_arguments()
        if self._peek() in "|&)" and self._peek():
            self.at += 1
        check_count(words, self.line)
        active = self.branches.active
        if words and words[0].text.lower() in ("cd", "set-location", "push-location"):
            self.folder = words[-1].text if len(words) > 1 else self.folder
        elif words and active is not False:
            self.commands.append(ShellCommand(tuple(words), self.folder))

    def _read_arguments(self) -> list[Word]:
        """The words of a command, up to its end."""
        words: list[Word] = []
        while True:
            self._skip_blank()
            letter = self._peek()
            if not letter or letter in _END or self._peek(2) == "&&":
                return words
            before = self.at
            self._step()
            words += self._read_argument()
            if self.at == before:
                self.at += 1

    def _read_argument(self) -> list[Word]:
        """The words that an argument becomes: several for a list."""
        line = self.line
        if name := self._match(_SPLAT):
            self.at = name.end()
            return _as_words(self._get(name[1].lower(), name[0]), line)
        text, alone = "", True
        while not self._is_argument_end():
            if (quoted := self._read_quoted()) is not None:
                text, alone = text + quoted, False
            elif self._starts_bracket():
                self.at += self._peek() != "("
                value = self._read_bracketed()
                if alone and not text:
                    return _as_words(value, line)
                text += as_text(value)
            elif name := self._match(NAME):
                self.at = name.end()
                value = self._get(find_key(name), name[0])
                if alone and not text and self._peek() in _AFTER:
                    return _as_words(value, line)
                text, alone = text + as_text(value), False
            else:
                text += self._peek()
                self.at += 1
        self._grow(text)
        return [] if text in ("2>&1", "*>&1") else [Word(text, line)]

    def _is_argument_end(self) -> bool:
        letter = self._peek()  # empty at the end of the script, and so in every text
        return letter in " \t\n;|)}" or self._peek(2) == "`\n"

    def _starts_bracket(self) -> bool:
        return self._peek() == "(" or self._peek(2) in ("$(", "@(")

    def _read_quoted(self) -> str | None:
        """Text in quotes, or the letter behind a backtick; None for anything else."""
        if self._peek() == "`":
            return self._read_expansion()
        return self._read_string() if self._peek() in "'\"" else None


def _as_words(value: Any, line: int) -> list[Word]:
    values = value if isinstance(value, list) else [value]
    return [Word(as_text(entry), line) for entry in values if entry is not NULL and entry != ""]
