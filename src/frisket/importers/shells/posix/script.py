"""Commands and variables of a POSIX shell's script, as bash would see them; nothing is run."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from frisket.importers.base import BadImport
from frisket.importers.files import Written
from frisket.importers.folders import read_plain_text
from frisket.importers.shells.branches import Branches
from frisket.importers.shells.posix.conditions import evaluate_test
from frisket.importers.shells.posix.splitting import Part, Splitter, Token
from frisket.importers.shells.words import (
    LONGEST,
    ShellCommand,
    UnreadableScript,
    Word,
    check_count,
    clean,
    combine_and,
    combine_or,
    drop_holes,
    is_known,
    mark_hole,
)

_SET = re.compile(r"([A-Za-z_]\w*)(?:\[\d+\])?(\+?)=")
_DECLARES = ("export", "declare", "local", "readonly", "typeset")
_HERE = re.compile(r"\bpwd\b|\bdirname\b|BASH_SOURCE")  # asks for the script's folder, or for cwd
_DEFAULT = re.compile(r"(\w+)(:?)([-=+])(.*)", re.DOTALL)
_ITEMS = re.compile(r"(\w+)\[([@*]|\d+)\]")
_DEEPEST = 8  # defaults within defaults, `eval` within `eval`
Value = str | list[str]


@dataclass(slots=True)
class Script:
    """What a script does, as far as its text tells."""

    commands: list[ShellCommand] = field(default_factory=list)
    variables: dict[str, Value] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)  # where a variable was set last


def read_script(text: str, *, holes: bool = False) -> Script:
    """The commands of a script, and its variables at the end.

    Parts under a condition count where it holds by what the script itself sets; where that is open,
    their commands count and the variables they set are not known. `holes`: the text may hold marks
    of what is open already. Raises UnreadableScript.
    """
    reader = _Reader()
    reader.read(text if holes else clean(text))
    return reader.script


def read_assignments(path: Path) -> Written:
    """The variables that a file sets, as `. file` leaves them in bash: text, by name.

    A variable that the file does not set itself is empty in it, as in a bare shell. Raises
    BadImport for a file that cannot be read, or whose quotes do not close.
    """
    try:
        script = read_script(read_plain_text(path))
    except UnreadableScript as error:
        raise BadImport(f"{path} line {error.line}: {error.message}") from error
    tree = {name: drop_holes(_as_scalar(value)) for name, value in script.variables.items()}
    return Written(path, tree, {(name,): line for name, line in script.lines.items()})


def _as_scalar(value: Value) -> str:
    return value if isinstance(value, str) else "".join(value[:1])


class _Whole(str):
    """The value of a variable that is not split at blanks, as quotes stand within `${...}`."""

    __slots__ = ()


class _Expansion:
    """The words that the parts of one word become."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.open: str | None = None  # the word that the next piece goes on with

    def extend(self, values: Sequence[str], *, split: bool) -> None:
        """Go on with the first value; each further one begins a word, `split` at blanks, too."""
        for number, value in enumerate(values):
            if number:
                self.end_word()
            unsplit = not split or isinstance(value, _Whole) or not is_known(value)
            for place, piece in enumerate([value] if unsplit else value.split()):
                if place:
                    self.end_word()
                self.open = (self.open or "") + piece

    def end_word(self) -> None:
        if self.open is not None:
            self.words.append(self.open)
            self.open = None


class _Reader:
    """Follows a script from its first line to its last."""

    def __init__(self) -> None:
        self.script = Script()
        self.branches = Branches()
        self.folder = ""
        self.value: bool | None = True  # of the and-or list so far
        self.join = ""  # the sign before the present command
        self.condition = ""  # the keyword whose condition is being read
        self.depth = 0
        self.eaten = 0  # letters that variables became, against those that double themselves

    def read(self, text: str) -> None:
        words: list[Token] = []
        array: list[Token] | None = None
        skip = False
        for token in Splitter(text).split():
            if array is not None:
                array = self._continue_list(words, array, token)
            elif not token.sign:
                if not skip:
                    words.append(token)
                skip = False
            elif token.sign == ">":
                skip = True
            elif token.sign == "(" and words and _starts_list(words[-1]):
                self._follow_command(words[:-1])  # keywords before it
                words, array = words[-1:], []
            else:
                self._end_command(words, token.sign)
                words = []

    def _continue_list(
        self, words: list[Token], array: list[Token], token: Token
    ) -> list[Token] | None:
        """The values of `NAME=( ... )` so far; None once its bracket is closed."""
        if token.sign == ")":
            self._assign_list(words.pop(), array)
            return None
        if not token.sign:
            array.append(token)
        return array

    def _end_command(self, words: list[Token], sign: str) -> None:
        if sign not in ("(", ")"):  # a function's name, a pattern of `case`
            self._follow_command(words)
        self.join = sign if sign in ("&&", "||") else ""

    def _follow_command(self, tokens: list[Token]) -> None:
        tokens = self._follow_keywords(tokens)
        if not tokens or (_is_not(tokens[0]) and len(tokens) == 1):
            return
        gate = {"&&": self.value, "||": None if self.value is None else not self.value}
        active = combine_and(self.branches.active, gate.get(self.join, True))
        turned = _is_not(tokens[0])
        result = False if active is False else self._run(tokens[turned:], active)
        if turned and active is not False:
            result = None if result is None else not result
        self._join_result(result)

    def _follow_keywords(self, tokens: list[Token]) -> list[Token]:
        """The command behind the keywords that stand before it; empty where none can stand."""
        while tokens and (word := _find_keyword(tokens[0])):
            tokens = tokens[1:]
            self._enter(word, tokens)
            if word in ("for", "case", "function"):
                return []
        return tokens

    def _join_result(self, result: bool | None) -> None:
        """Take a command's success into the and-or list that it stands in."""
        if self.join == "&&":
            self.value = combine_and(self.value, result)
        else:
            self.value = combine_or(self.value, result) if self.join == "||" else result

    def _enter(self, word: str, rest: Sequence[Token]) -> None:
        """Follow a keyword into its block, or out of it."""
        if word in ("if", "elif", "while", "until"):
            self.condition, self.join = word, ""
            if word == "elif":
                self.branches.ask()
        elif word in ("then", "do"):
            truth = self.value if self.condition in ("if", "elif") else None
            if self.condition == "elif":
                self.branches.turn(truth)
            elif self.condition:  # a `for` has opened its block by itself
                self.branches.begin(truth)
            self.condition = ""
        elif word in ("for", "case"):
            self.branches.begin(None)
            if word == "for" and rest:
                name = self._expand(rest[0])[0]
                self.script.variables[name] = mark_hole(f"${name}")
        elif word == "else":
            self.branches.turn(truth=True)
        elif word in ("fi", "done", "esac"):
            self.branches.end()

    def _run(self, tokens: Sequence[Token], active: bool | None) -> bool | None:
        """Whether a command succeeds, as far as that can be told."""
        pairs = list(itertools.takewhile(_is_set, tokens))
        command = tokens[len(pairs) :]
        if not command:
            return self._assign_all(pairs, active)
        words = [Word(text, token.line) for token in command for text in self._expand(token)]
        if words and words[0].text in _DECLARES:
            return self._assign_all(command[1:], active)
        truth = evaluate_test([word.text for word in words])
        if truth != "no test":
            return truth
        if words and not self._change(words):
            before = tuple(map(self._pair_assignment, pairs))
            self.script.commands.append(ShellCommand(tuple(words), self.folder, 0, before))
        return None if self.condition else True

    def _assign_all(self, tokens: Sequence[Token], active: bool | None) -> bool:
        """Follow every `NAME=value` of some words; true, for so the shell succeeds."""
        for token in filter(_is_set, tokens):
            self._assign(token, active)
        return True

    def _change(self, words: Sequence[Word]) -> bool:
        """Follow a command that changes the shell itself; whether it is one."""
        name = words[0].text
        if name == "eval" and self.depth < _DEEPEST:
            self._evaluate(words)
        elif name == "unset":
            for word in words[1:]:
                self.script.variables.pop(word.text, None)
        elif name == "cd" and len(words) > 1:
            folder = words[1].text
            inside = f"{self.folder}/{folder}" if self.folder else folder
            self.folder = folder if _is_absolute(folder) else inside
        else:
            return False
        return True

    def _evaluate(self, words: Sequence[Word]) -> None:
        inner = _Reader()
        inner.depth, inner.script.variables = self.depth + 1, self.script.variables
        inner.folder = self.folder
        try:
            inner.read(" ".join(word.text for word in words[1:]))
        except UnreadableScript as error:
            raise UnreadableScript(error.message, words[0].line) from error
        for command in inner.script.commands:
            inner_words = tuple(Word(word.text, words[0].line) for word in command.words)
            self.script.commands.append(ShellCommand(inner_words, command.folder))

    def _pair_assignment(self, token: Token) -> tuple[str, str]:
        name, _, value = self._split_assignment(token)
        return name, value

    def _split_assignment(self, token: Token) -> tuple[str, bool, str]:
        """Name, whether it is added to, and value of `NAME=value`."""
        match = _SET.match(token.parts[0].text)
        assert match is not None  # `_is_set` was asked
        rest = Part("text", token.parts[0].text[match.end() :], quoted=True)
        parts = (rest, *(Part(p.kind, p.text, quoted=True) for p in token.parts[1:]))
        return match[1], bool(match[2]), "".join(self._expand(Token(parts, "", token.line)))

    def _assign(self, token: Token, active: bool | None) -> None:
        name, more, value = self._split_assignment(token)
        old = self.script.variables.get(name, "")
        if more:
            value = _as_scalar(old) + value
        self._set(name, value, token.line, active)

    def _assign_list(self, token: Token, items: Sequence[Token]) -> None:
        match = _SET.match(token.parts[0].text)
        assert match is not None  # `_starts_list` was asked
        active = combine_and(self.branches.active, self.value if self.join == "&&" else True)
        values = [text for entry in items for text in self._expand(entry)]
        old = self.script.variables.get(match[1], [])
        if match[2]:
            values = [*([old] if isinstance(old, str) else old), *values]
        check_count(values, token.line)
        self._set(match[1], values, token.line, active)

    def _set(self, name: str, value: Value, line: int, active: bool | None) -> None:
        if active is False:
            return
        if active is None and value != self.script.variables.get(name):
            value = mark_hole(f"${name}")
        self.script.variables[name] = value
        self.script.lines[name] = line

    def _expand(self, token: Token) -> list[str]:
        """The words that one word becomes, as variables without quotes are split at blanks."""
        expansion = _Expansion()
        for part in _drop_empty_quotes(token.parts):
            values = [part.text] if part.kind == "text" else self._expand_part(part)
            split = part.kind != "text" and not part.quoted
            expansion.extend(values, split=split)
            if split:
                self._count_growth(values, token.line)
        expansion.end_word()
        return expansion.words

    def _count_growth(self, values: Sequence[str], line: int) -> None:
        self.eaten += sum(map(len, values))
        if self.eaten > 100 * LONGEST:
            raise UnreadableScript("its variables become too long; is it the right file?", line)

    def _expand_part(self, part: Part) -> list[str]:
        """What a variable or a command in a word stands for."""
        name = part.text
        if part.kind == "run":
            return ["." if _HERE.search(name) else mark_hole(f"$({name})")]
        if match := _ITEMS.fullmatch(name):
            return self._expand_items(match[1], match[2], quoted=part.quoted)
        if match := _DEFAULT.fullmatch(name):
            return self._expand_or_default(match[1], match[2], match[3], match[4])
        value = self.script.variables.get(name)
        if value is None:
            value = {"PWD": ".", "HOME": "~"}.get(name, mark_hole(f"${name}"))
        self._count_growth([_as_scalar(value)], 0)
        return [_as_scalar(value)]

    def _expand_items(self, name: str, index: str, *, quoted: bool) -> list[str]:
        value = self.script.variables.get(name, [])
        items = [value] if isinstance(value, str) else value
        if index == "*" and quoted:
            return [" ".join(items)]
        return list(items) if index in "@*" else items[int(index) : int(index) + 1]

    def _expand_or_default(self, name: str, empty: str, sign: str, default: str) -> list[str]:
        value = self.script.variables.get(name)
        is_set = value is not None and (bool(_as_scalar(value)) or not empty)
        if is_set and sign != "+":
            return [_as_scalar(value or "")]
        return [""] if sign == "+" and not is_set else self._expand_default(name, default)

    def _expand_default(self, name: str, default: str) -> list[str]:
        self.depth += 1
        if self.depth > _DEEPEST:
            return [mark_hole(f"${{{name}}}")]
        quoted = default.startswith(('"', "'"))
        source = default if quoted else f'"{default}"'
        words = [token for token in Splitter(source).split() if not token.sign]
        text = " ".join(word for token in words for word in self._expand(token))
        self.depth -= 1
        return [_Whole(text) if quoted else text]


def _find_keyword(token: Token) -> str:
    words = ("if", "then", "elif", "else", "fi", "for", "while", "until", "do", "done", "case",
             "esac", "function", "{", "}", "time")  # fmt: skip
    is_plain = len(token.parts) == 1 and not token.parts[0].quoted and token.parts[0].kind == "text"
    return token.parts[0].text if is_plain and token.parts[0].text in words else ""


def _is_not(token: Token) -> bool:
    return [(part.kind, part.text, part.quoted) for part in token.parts] == [("text", "!", False)]


def _is_set(token: Token) -> bool:
    first = token.parts[0]
    return first.kind == "text" and not first.quoted and bool(_SET.match(first.text))


def _drop_empty_quotes(parts: Sequence[Part]) -> list[Part]:
    """Parts of a word, without the empty quotes around a list: an empty list is no word."""
    if not any(part.quoted and part.kind == "name" and "[@]" in part.text for part in parts):
        return [*parts]
    return [part for part in parts if part.text or part.kind != "text"]


def _starts_list(token: Token) -> bool:
    return len(token.parts) == 1 and _is_set(token) and token.parts[0].text.endswith("=")


def _is_absolute(folder: str) -> bool:
    return folder.startswith(("/", "~")) or folder[1:2] == ":"
