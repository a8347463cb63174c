"""Commands of a Windows batch file, with its variables and plain conditions; nothing is run."""

import re
from collections.abc import Iterator

from frisket.importers.shells.branches import Branches
from frisket.importers.shells.words import (
    LONGEST,
    MOST,
    Command,
    Unreadable,
    Word,
    clean,
    compare,
    counted,
    hole,
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


def read_script(text: str) -> list[Command]:
    """The commands of a batch file, words as a program is given them. Raises Unreadable."""
    reader = _Reader()
    for number, (line, statement) in enumerate(_lines(clean(text))):
        if number > MOST:
            raise Unreadable(f"more than {MOST:,} lines; is it the right file?", line)
        reader.read(statement, line)
    return reader.commands


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line with those that a `^` at its end joins to it, and the number of the first."""
    begun, whole = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        begun = begun or number
        if line.endswith("^") and not line.endswith("^^"):
            whole += line[:-1] + "\n"  # the line end is no blank to cmd, but it ends no word either
            continue
        yield begun, whole + line
        begun, whole = 0, ""
    if whole:
        yield begun, whole


class _Reader:
    """One pass over a file."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.names: dict[str, str] = {}
        self.branches = Branches()
        self.folder = ""
        self.grown = 0
        self._after: bool | None = None  # whether an `else` that follows counts

    def read(self, text: str, line: int) -> None:
        """Follow one line: it may hold several commands, open blocks or close them."""
        rest = self._filled(text.lstrip("@ \t"), line)
        for part in _parts(rest):
            self._part(part, line)
            line += part.count("\n")

    def _part(self, part: str, line: int) -> None:
        plain = part.strip(" \t@\n")
        lowered = plain.lower()
        if plain in ("(", ")"):
            if plain == ")":
                truth = self.branches.end()
                self._after = None if truth is None else not truth
            return
        if re.match(r"(rem\b|::|:)", lowered) or not plain:
            return
        if lowered.startswith("else"):
            self.branches.begin(self._after)
            self._part(plain[4:], line)
            return
        if found := _IF.match(plain):
            self._if(plain[found.end() :], line, negated=bool(found[2]))
        elif lowered.startswith("for "):
            self.branches.begin(None)
        else:
            self._command(plain, line + part[: part.index(plain[0])].count("\n"))

    def _if(self, rest: str, line: int, *, negated: bool) -> None:
        found = _TEST.match(rest)
        truth = self._tested(found) if found else None
        truth = not truth if negated and truth is not None else truth
        then = rest[found.end() :].strip() if found else ""
        self.branches.begin(truth)
        if then == "(":
            return
        inside, rest = _bracketed(then)
        self._part(inside, line)
        self.branches.end()
        if rest.lower().startswith("else"):
            self.branches.begin(None if truth is None else not truth)
            self._part(_bracketed(rest[4:].strip())[0], line)
            self.branches.end()

    def _tested(self, found: re.Match[str]) -> bool | None:
        if found[1]:
            return True if found[1].lower() in self.names else None
        if found[2]:
            return None
        sign = found[5].strip().lower()
        left, right = found[4].strip('"'), found[6].strip('"')
        return compare(left, _NUMBERS.get(sign, "=="), right)

    def _command(self, text: str, line: int) -> None:
        active = self.branches.active
        if found := _SET.match(text):
            if active is not False:
                self._set(found, active)
            return
        words = _words(text, line)
        name = words[0].text.lower() if words else ""
        if name in ("call", "start") and len(words) > 1:
            words = words[1:]
        if name in ("cd", "pushd", "chdir") and len(words) > 1:
            self.folder = words[-1].text
        elif words and active is not False:
            self.commands.append(Command(tuple(words), self.folder))
            counted(self.commands, line)

    def _set(self, found: re.Match[str], active: bool | None) -> None:
        name, value = found[2].strip().lower(), found[3]
        quoted = found[0][: found.start(2)].endswith('"')
        if quoted and '"' in value:
            value = value[: value.rindex('"')]
        value = hole(f"%{name}%") if found[1] else value.strip("\n")
        if active is None and value != self.names.get(name):
            value = hole(f"%{name}%")
        self.names[name] = value

    def _filled(self, text: str, line: int) -> str:
        """A line with its variables written out."""
        out = _VARIABLE.sub(self._value, text)
        self.grown += len(out)
        if self.grown > 100 * LONGEST:
            raise Unreadable("its variables become too long; is it the right file?", line)
        return out

    def _value(self, found: re.Match[str]) -> str:
        name = (found[1] or found[3] or "").lower()
        if not name:
            return "./" if "~d" in found[0].lower() else hole(found[0])
        if found[2]:
            return hole(found[0])
        return self.names.get(name, _PLACES.get(name, hole(found[0])))


def _bracketed(text: str) -> tuple[str, str]:
    """What stands within the brackets that a text begins with, and what follows them."""
    if not text.startswith("("):
        return text, ""
    end = text.find(")")
    return (text[1:], "") if end < 0 else (text[1:end], text[end + 1 :].strip())


def _parts(text: str) -> Iterator[str]:
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


def _words(text: str, line: int) -> list[Word]:
    r"""Words as Windows programs split them: double quotes hold together, `\"` is a quote."""
    words: list[Word] = []
    now: list[str] | None = None
    quoted, at, begun = False, 0, line
    while at < len(text):
        letter = text[at]
        line += letter == "\n"
        if letter in " \t\n" and not quoted:
            words += _end_word(now, begun)
            now = None
            at += 1
            continue
        if now is None:
            now, begun = [], line
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
    words += _end_word(now, begun)
    counted(words, line)
    return _without_redirects(words)


def _end_word(letters: list[str] | None, line: int) -> list[Word]:
    """The word that is open, with the line where it begins; nothing where none is."""
    return [] if letters is None else [Word("".join(letters), line)]


def _without_redirects(words: list[Word]) -> list[Word]:
    kept: list[Word] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif found := re.fullmatch(r"\d?>>?(.*)", word.text):
            skip = not found[1]
        else:
            kept.append(word)
    return kept
