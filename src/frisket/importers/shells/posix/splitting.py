"""Splits the text of a POSIX shell (with bash's arrays) into words and signs, running nothing."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from frisket.importers.shells.words import LONGEST, UnreadableScript, check_count

_BLANK = " \t\r"
_SIGN = re.compile(r"&&|\|\||;;|[;&|()]")
_NAME = re.compile(r"[A-Za-z_]\w*|\d|[@*#?$!-]")
_REDIRECT = re.compile(r"(?:\d|&)?(?:<<<|<<-?|>>|>\||[<>])(?:&(?:\d|-)?)?")


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a word: text, a variable (`$X`, `${X...}`) or a command (`$(...)`)."""

    kind: str  # "text", "name", "run"
    text: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Token:
    """A word in parts, or a sign: `;`, `&&`, a line end (also `;`), `>` before a file."""

    parts: tuple[Part, ...]
    sign: str
    line: int


class Splitter:
    """One pass over a text."""

    def __init__(self, text: str) -> None:
        """Begin at the first line."""
        self.text, self.at, self.line = text, 0, 1
        self.parts: list[Part] = []
        self.is_open = False  # whether a word is open, be it empty: ""
        self.here_documents: list[str] = []  # ends of here-documents that begin at the next line
        self.awaited = False  # whether the next word is such an end

    def split(self) -> list[Token]:
        """Every word and sign; UnreadableScript for a quote that is never closed."""
        tokens: list[Token] = []
        for token in self._split_tokens():
            tokens.append(token)
            check_count(tokens, self.line)
        return tokens

    def _split_tokens(self) -> Iterator[Token]:
        while self.at < len(self.text):
            if self.text.startswith("\\\n", self.at):
                self.at, self.line = self.at + 2, self.line + 1
                continue
            letter = self.text[self.at]
            redirect = self._redirect()
            closes = letter in "\n" + _BLANK or redirect or _SIGN.match(self.text, self.at)
            if not closes:
                self._read_within(letter)
                continue
            if self.is_open:
                yield from self._end_word()
            yield from self._read_between(letter, redirect)
        if self.is_open:
            yield from self._end_word()
        yield Token((), ";", self.line)

    def _redirect(self) -> re.Match[str] | None:
        can_begin = self.text[self.at] in "<>" or not self.is_open
        return _REDIRECT.match(self.text, self.at) if can_begin else None

    def _read_within(self, letter: str) -> None:
        if letter == "#" and not self.is_open:
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end
        else:
            self._read_piece()

    def _end_word(self) -> Iterator[Token]:
        """The word that ends here, unless it names the end of a here-document."""
        token = Token(tuple(self.parts), "", self.line)
        self.parts, self.is_open = [], False
        if self.awaited:
            self.here_documents.append("".join(part.text for part in token.parts))
            self.awaited = False
        else:
            yield token

    def _read_between(self, letter: str, redirect: re.Match[str] | None) -> Iterator[Token]:
        """What stands between words: a sign, a line end, blanks."""
        if letter == "\n":
            yield Token((), ";", self.line)
            self._pass_newline()
        elif redirect:
            self.at = redirect.end()
            self.awaited = "<<" in redirect[0] and "<<<" not in redirect[0]
            if not (self.awaited or re.search(r"&[\d-]$", redirect[0])):
                yield Token((), ">", self.line)
        elif sign := _SIGN.match(self.text, self.at):
            self.at = sign.end()
            yield Token((), sign[0], self.line)
        else:
            self.at += 1

    def _pass_newline(self) -> None:
        self.at, self.line = self.at + 1, self.line + 1
        for mark in self.here_documents:
            while self.at < len(self.text):
                end = self.text.find("\n", self.at)
                end = len(self.text) if end < 0 else end
                row = self.text[self.at : end]
                self.at, self.line = min(end + 1, len(self.text)), self.line + 1
                if row.strip("\t") == mark:
                    break
        self.here_documents = []

    def _add(self, kind: str, text: str, *, quoted: bool) -> None:
        self.is_open = True
        if len(text) > LONGEST:
            raise UnreadableScript("a word of more than 100,000 letters", self.line)
        self.parts.append(Part(kind, text, quoted))

    def _read_piece(self) -> None:
        """The next piece of a word."""
        letter = self.text[self.at]
        if letter == "'":
            self._add("text", self._read_until("'"), quoted=True)
        elif letter == '"':
            self._read_double()
        elif letter == "\\":
            self._add("text", self.text[self.at + 1 : self.at + 2], quoted=True)
            self.at += 2
        elif letter == "$" and self.text.startswith("$'", self.at):
            self.at += 1
            self._add("text", self._read_until("'"), quoted=True)
        elif letter in "$`":
            self._read_dollar(quoted=False)
        else:
            end = re.compile(r"[\s'\"\\$`;&|()<>]").search(self.text, self.at + 1)
            stop = end.start() if end else len(self.text)
            self._add("text", self.text[self.at : stop], quoted=False)
            self.at = stop

    def _read_until(self, mark: str) -> str:
        """The text from after the present letter to the next `mark`, which is passed."""
        end = self.text.find(mark, self.at + 1)
        if end < 0:
            raise UnreadableScript(f"the quote {mark} that begins here is never closed", self.line)
        inside = self.text[self.at + 1 : end]
        self.at, self.line = end + 1, self.line + inside.count("\n")
        return inside

    def _read_double(self) -> None:
        first_line, text = self.line, ""
        self._add("text", "", quoted=True)
        self.at += 1
        while self.at < len(self.text):
            letter = self.text[self.at]
            if letter == '"':
                self._add("text", text, quoted=True)
                self.at += 1
                return
            if letter == "\\" and self.text[self.at + 1 : self.at + 2] in (
                "$",
                "`",
                '"',
                "\\",
                "\n",
            ):
                after = self.text[self.at + 1]
                text += "" if after == "\n" else after
                self.line += after == "\n"
                self.at += 2
            elif letter in "$`":
                self._add("text", text, quoted=True)
                text = ""
                self._read_dollar(quoted=True)
            else:
                self.line += letter == "\n"
                text += letter
                self.at += 1
        raise UnreadableScript('the quote " that begins here is never closed', first_line)

    def _read_dollar(self, *, quoted: bool) -> None:
        if self.text[self.at] == "`":
            self._add("run", self._read_until("`"), quoted=quoted)
        elif self.text.startswith("$(", self.at):
            self._add("run", self._read_brackets("(", ")"), quoted=quoted)
        elif self.text.startswith("${", self.at):
            self._add("name", self._read_brackets("{", "}"), quoted=quoted)
        elif name := _NAME.match(self.text, self.at + 1):
            self._add("name", name[0], quoted=quoted)
            self.at = name.end()
        else:
            self._add("text", "$", quoted=quoted)
            self.at += 1

    def _read_brackets(self, left: str, right: str) -> str:
        """The text within the brackets after the present `$`, which are passed."""
        start, depth, first_line = self.at + 2, 1, self.line
        for at in range(start, len(self.text)):
            letter = self.text[at]
            depth += (letter == left) - (letter == right)
            self.line += letter == "\n"
            if not depth:
                self.at = at + 1
                return self.text[start:at]
        raise UnreadableScript(f"the ${left} that begins here is never closed", first_line)
