"""Commands of a Windows batch file, with its variables and plain conditions; nothing is run."""

import re
from collections.abc import Iterator

from frisket.importers.shells.branches import Branches
from frisket.importers.shells.words import (
    LONGEST,
    MOST,
    ShellCommand,
    UnreadableScript,
    Word,
    check_count,
    clean,
    compare,
    mark_hole,
)

_VARIABLE = re.compile(r"%%?~?[A-Za-z]*\d|%\*|%%~?\w+|%([^%\n:=]+)(:[^%\n]*)?%|!([^!\n:=\s]+)!")
_SET = re.compile(r'set\s+(/[ap]\s+)?"?([^=\n"]+)=(.*)', re.IGNORECASE | re.DOTALL)
_IF = re.compile(r"if\s+(/i\s+)?(not\s+)?", re.IGNORECASE)
_TEST = re.compile(
    r'(?:defined\s+(\S+)|(exist|errorlevel)\s+("[^"]*"|\S+)'
    r'|("[^"]*"|[^\s=()]+)\s*(==|\s(?:equ|neq|lss|leq|gtr|geq)\s)\s*("[^"]*"|[^\s()]*))',
    re.IGNORECASE,
)
_NUMBERS = {"equ": "eq", "neq": "ne", "lss": "lt", "leq": "le", "gtr": "gt", "geq": "ge"}
_PLACES = {"cd": ".", "userprofile": "~", "homepath": "~"}


def read_script(text: str) -> list[ShellCommand]:
    """The commands of a batch file, words as a program is given them. Raises UnreadableScript."""
    reader = _Reader()
    for number, (line, statement) in enumerate(_join_lines(clean(text))):
        if number > MOST:
            raise UnreadableScript(f"more than {MOST:,} lines; is it the right file?", line)
        reader.read(statement, line)
    return reader.commands


def _join_lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line with those that a `^` at its end joins to it, and the number of the first."""
    first, joined = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        first = first or number
        if line.endswith("^") and not line.endswith("^^"):
            joined += (
                line[:-1] + "\n"
            )  # the line end is no blank to cmd, but it ends no word either
            continue
        yield first, joined + line
        first, joined = 0, ""
    if joined:
        yield first, joined


class _Reader:
    """One pass over a file."""

    def __init__(self) -> None:
        self.commands: list[ShellCommand] = []
        self.names: dict[str, str] = {}
        self.branches = Branches()
        self.folder = ""
        self.grown = 0
        self._after: bool | None = None  # whether an `else` that follows counts

    def read(self, text: str, line: int) -> None:
        """Follow one line: it may hold several commands, open blocks or close them."""
        rest = self._fill_variables(text.lstrip("@ \t"), line)
        for part in _split_parts(rest):
            self._read_part(part, line)
            line += part.count("\n")

    def _read_part(self, part: str, line: int) -> None:
        statement = part.strip(" \t@\n")
        lowered = statement.lower()
        if statement in ("(", ")"):
            if statement == ")":
                truth = self.branches.end()
                self._after = None if truth is None else not truth
            return
        if re.match(r"(rem\b|::|:)", lowered) or not statement:
            return
        if lowered.startswith("else"):
            self.branches.begin(self._after)
            self._read_part(statement[4:], line)
            return
        if match := _IF.match(statement):
            self._follow_if(statement[match.end() :], line, negated=bool(match[2]))
        elif lowered.startswith("for "):
            self.branches.begin(None)
        else:
            self._follow_command(statement, line + part[: part.index(statement[0])].count("\n"))

    def _follow_if(self, rest: str, line: int, *, negated: bool) -> None:
        match = _TEST.match(rest)
        truth = self._evaluate_test(match) if match else None
        truth = not truth if negated and truth is not None else truth
        then = rest[match.end() :].strip() if match else ""
        self.branches.begin(truth)
        if then == "(":
            return
        inside, rest = _split_brackets(then)
        self._read_part(inside, line)
        self.branches.end()
        if rest.lower().startswith("else"):
            self.branches.begin(None if truth is None else not truth)
            self._read_part(_split_brackets(rest[4:].strip())[0], line)
            self.branches.end()

    def _evaluate_test(self, match: re.Match[str]) -> bool | None:
        if match[1]:
            return True if match[1].lower() in self.names else None
        if match[2]:
            return None
        sign = match[5].strip().lower()
        left, right = match[4].strip('"'), match[6].strip('"')
        return compare(left, _NUMBERS.get(sign, "=="), right)

    def _follow_command(self, text: str, line: int) -> None:
        active = self.branches.active
        if match := _SET.match(text):
            if active is not False:
                self._set(match, active)
            return
        words = _split_words(text, line)
        name = words[0].text.lower() if words else ""
        if name in ("call", "start") and len(words) > 1:
            words = words[1:]
        if name in ("cd", "pushd", "chdir") and len(words) > 1:
            self.folder = words[-1].text
        elif words and active is not False:
            self.commands.append(ShellCommand(tuple(words), self.folder))
            check_count(self.commands, line)

    def _set(self, match: re.Match[str], active: bool | None) -> None:
        name, value = match[2].strip().lower(), match[3]
        quoted = match[0][: match.start(2)].endswith('"')
        if quoted and '"' in value:
            value = value[: value.rindex('"')]
        value = mark_hole(f"%{name}%") if match[1] else value.strip("\n")
        if active is None and value != self.names.get(name):
            value = mark_hole(f"%{name}%")
        self.names[name] = value

    def _fill_variables(self, text: str, line: int) -> str:
        """A line with its variables written out."""
        out = _VARIABLE.sub(self._look_up, text)
        self.grown += len(out)
        if self.grown > 100 * LONGEST:
            raise UnreadableScript("its variables become too long; is it the right file?", line)
        return out

    def _look_up(self, match: re.Match[str]) -> str:
        name = (match[1] or match[3] or "").lower()
        if not name:
            return "./" if "~d" in match[0].lower() else mark_hole(match[0])
        if match[2]:
            return mark_hole(match[0])
        return self.names.get(name, _PLACES.get(name, mark_hole(match[0])))


def _split_brackets(text: str) -> tuple[str, str]:
    """What stands within the brackets that a text begins with, and what follows them."""
    if not text.startswith("("):
        return text, ""
    end = text.find(")")
    return (text[1:], "") if end < 0 else (text[1:end], text[end + 1 :].strip())


def _split_parts(text: str) -> Iterator[str]:
    """The commands of a line: cut at `&`, `|` and the brackets of blocks, not within quotes."""
    start, quoted, at = 0, False, 0
    while at < len(text):
        letter = text[at]
        if letter == '"':
            quoted = not quoted
        elif letter == "^" and not quoted:
            at += 1
        elif letter in "&|" and not quoted and text[at - 1 : at] != ">":
            yield text[start:at]
            start = at + 1
        elif letter == ")" and not quoted and not text[start:at].strip():
            yield ")"
            start = at + 1
        at += 1
    rest = text[start:]
    yield rest


def _split_words(text: str, line: int) -> list[Word]:
    r"""Words as Windows programs split them: double quotes hold together, `\"` is a quote."""
    words: list[Word] = []
    now: list[str] | None = None
    quoted, at, first_line = False, 0, line
    while at < len(text):
        letter = text[at]
        line += letter == "\n"
        if letter in " \t\n" and not quoted:
            words += _end_word(now, first_line)
            now = None
            at += 1
            continue
        if now is None:
            now, first_line = [], line
        if letter == "^" and not quoted:
            at += 1
            now.append(text[at : at + 1].strip("\n"))
        elif text[at : at + 2] == '\\"':
            at += 1
            now.append('"')
        elif letter == '"':
            quoted = not quoted
        else:
            now.append(letter)
        at += 1
    words += _end_word(now, first_line)
    check_count(words, line)
    return _drop_redirects(words)


def _end_word(letters: list[str] | None, line: int) -> list[Word]:
    """The word that is open, with the line where it begins; nothing where none is."""
    return [] if letters is None else [Word("".join(letters), line)]


def _drop_redirects(words: list[Word]) -> list[Word]:
    remaining: list[Word] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif match := re.fullmatch(r"\d?>>?(.*)", word.text):
            skip = not match[1]
        else:
            remaining.append(word)
    return remaining
