"""Commands in the cells of a notebook, with the plain values its Python sets; nothing is run."""

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Any

from frisket.disk.untrusted import BadText, parse_json
from frisket.importers.shells.posix.script import read_script as read_posix
from frisket.importers.shells.words import (
    LONGEST,
    ShellCommand,
    UnreadableScript,
    Word,
    clean,
    mark_hole,
)

_BANG = re.compile(r"^(\s*)(!|%(?:cd|env)\b)(.*)", re.DOTALL)
_SHELLS = ("bash", "sh", "shell", "script")
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\$(\w+)")


def read_notebook(text: str) -> list[ShellCommand]:
    """The commands of all code cells, `!...` and `%%bash`, each with its cell (from 1).

    Lines count from 1 within the cell. Raises UnreadableScript.
    """
    try:
        tree = parse_json(text)
    except BadText as error:
        raise UnreadableScript(f"is no notebook: {error.message}", error.line or 1) from error
    cells = tree.get("cells") if isinstance(tree, dict) else None
    if not isinstance(cells, list):
        raise UnreadableScript("is no notebook: it has no cells", 1)
    reader = _Reader()
    for number, cell in enumerate(cells, 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            reader.read(_join_source(cell.get("source")), number)
    return reader.commands


def _join_source(source: Any) -> str:
    lines = source if isinstance(source, list) else [source]
    return clean("".join(line for line in lines if isinstance(line, str)))


class _Reader:
    """Follows the cells from the first to the last."""

    def __init__(self) -> None:
        self.commands: list[ShellCommand] = []
        self.names: dict[str, Any] = {}
        self.folder = ""
        self.grown = 0

    def read(self, text: str, cell: int) -> None:
        magic = re.match(r"\s*%%(\w+)", text)
        if magic and magic[1] in _SHELLS:
            self._read_shell("\n" + text.partition("\n")[2], 1, cell)
        elif not magic:
            python, calls = _cut_calls(text)
            self._follow_python(python, calls, cell)

    def _follow_python(self, text: str, calls: list[tuple[int, str]], cell: int) -> None:
        """Follow what Python sets, and the calls between."""
        try:
            with warnings.catch_warnings(action="ignore"):  # of odd escapes in its texts
                body = ast.parse(text).body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            body = []
        waiting = list(calls)
        for node in body:
            while waiting and waiting[0][0] < node.lineno:
                self._call(*waiting.pop(0), cell)
            last = node.end_lineno or node.lineno
            while waiting and waiting[0][0] <= last:  # within a block
                self._call(*waiting.pop(0), cell)
            self._follow_statement(node)
        for line, call in waiting:
            self._call(line, call, cell)

    def _follow_statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    self.names[target.id] = self._evaluate(node.value, target.id)
            return
        for inner in ast.walk(node):  # what a block sets is not known
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                self.names[inner.id] = mark_hole(f"{{{inner.id}}}")

    def _evaluate(self, node: ast.expr, name: str) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.names.get(node.id, mark_hole(f"{{{name}}}"))
        if isinstance(node, ast.JoinedStr):
            parts = [
                self._evaluate(part, name)
                if isinstance(part, ast.Constant)
                else self._evaluate_field(part, name)
                for part in node.values
            ]
            return "".join(map(str, parts))[:LONGEST]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = self._evaluate(node.left, name), self._evaluate(node.right, name)
            if isinstance(left, str) and isinstance(right, str):
                return (left + right)[:LONGEST]
        return mark_hole(f"{{{name}}}")

    def _evaluate_field(self, node: ast.expr, name: str) -> Any:
        if isinstance(node, ast.FormattedValue) and node.format_spec is None:
            return self._evaluate(node.value, name)
        return mark_hole(f"{{{name}}}")

    def _call(self, line: int, text: str, cell: int) -> None:
        filled = _FIELD.sub(self._fill_field, text)
        self.grown += len(filled)
        if self.grown > 100 * LONGEST:
            raise UnreadableScript("its variables become too long; is it the right file?", line)
        if text.startswith("%cd"):
            self.folder = filled.partition(" ")[2].strip(" \"'\n")
        elif not text.startswith("%"):
            self._read_shell(filled, line, cell)

    def _fill_field(self, match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        name = (match[1] or match[2] or "").strip()
        if name in self.names:
            return str(self.names[name])
        return mark_hole(match[0]) if match[1] and name.isidentifier() else match[0]

    def _read_shell(self, text: str, line: int, cell: int) -> None:
        try:
            script = read_posix(text, holes=True)
        except UnreadableScript as error:
            raise UnreadableScript(
                f"cell {cell}: {error.message}", line + error.line - 1
            ) from error
        for command in script.commands:
            words = tuple(Word(word.text, word.line + line - 1) for word in command.words)
            folder = command.folder or self.folder
            self.commands.append(ShellCommand(words, folder, cell, command.environment))


def _cut_calls(text: str) -> tuple[str, list[tuple[int, str]]]:
    """A cell's Python with `pass` where it calls a shell, and the calls with their lines."""
    out: list[str] = []
    calls: list[tuple[int, str]] = []
    lines = iter(enumerate(text.split("\n"), 1))
    for number, line in lines:
        match = _BANG.match(line)
        if not match:
            out.append("" if line.lstrip().startswith("%") else line)
            continue
        call = (match[2] if match[2].startswith("%") else "") + match[3]
        out.append(f"{match[1]}pass")
        for _, more in _take_continuation(line, lines):
            call += "\n" + more
            out.append("")
        calls.append((number, call))
    return "\n".join(out), calls


def _take_continuation(line: str, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    while line.rstrip().endswith("\\"):
        number, line = next(lines, (0, ""))
        if not number:
            return
        yield number, line
