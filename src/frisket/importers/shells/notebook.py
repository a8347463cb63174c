"""Commands in the cells of a notebook, with the plain values its Python sets; nothing is run."""

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Any

from frisket.disk.untrusted import BadText, parse_json
from frisket.importers.shells.posix.script import read_script as read_posix
from frisket.importers.shells.words import LONGEST, Command, Unreadable, Word, clean, hole

_BANG = re.compile(r"^(\s*)(!|%(?:cd|env)\b)(.*)", re.DOTALL)
_SHELLS = ("bash", "sh", "shell", "script")
_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\$(\w+)")


def read_notebook(text: str) -> list[Command]:
    """The commands of all code cells, `!...` and `%%bash`, each with its cell (from 1).

    Lines count from 1 within the cell. Raises Unreadable.
    """
    try:
        tree = parse_json(text)
    except BadText as error:
        raise Unreadable(f"is no notebook: {error.message}", error.line or 1) from error
    cells = tree.get("cells") if isinstance(tree, dict) else None
    if not isinstance(cells, list):
        raise Unreadable("is no notebook: it has no cells", 1)
    reader = _Reader()
    for number, cell in enumerate(cells, 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            reader.read(_source(cell.get("source")), number)
    return reader.commands


def _source(written: Any) -> str:
    lines = written if isinstance(written, list) else [written]
    return clean("".join(line for line in lines if isinstance(line, str)))


class _Reader:
    """Follows the cells from the first to the last."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.names: dict[str, Any] = {}
        self.folder = ""
        self.grown = 0

    def read(self, text: str, cell: int) -> None:
        magic = re.match(r"\s*%%(\w+)", text)
        if magic and magic[1] in _SHELLS:
            self._shell("\n" + text.partition("\n")[2], 1, cell)
        elif not magic:
            plain, calls = _without_calls(text)
            self._names(plain, calls, cell)

    def _names(self, text: str, calls: list[tuple[int, str]], cell: int) -> None:
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
            self._statement(node)
        for line, call in waiting:
            self._call(line, call, cell)

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    self.names[target.id] = self._value(node.value, target.id)
            return
        for inner in ast.walk(node):  # what a block sets is not known
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                self.names[inner.id] = hole(f"{{{inner.id}}}")

    def _value(self, node: ast.expr, name: str) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.names.get(node.id, hole(f"{{{name}}}"))
        if isinstance(node, ast.JoinedStr):
            parts = [
                self._value(each, name)
                if isinstance(each, ast.Constant)
                else self._inner(each, name)
                for each in node.values
            ]
            return "".join(map(str, parts))[:LONGEST]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = self._value(node.left, name), self._value(node.right, name)
            if isinstance(left, str) and isinstance(right, str):
                return (left + right)[:LONGEST]
        return hole(f"{{{name}}}")

    def _inner(self, node: ast.expr, name: str) -> Any:
        if isinstance(node, ast.FormattedValue) and node.format_spec is None:
            return self._value(node.value, name)
        return hole(f"{{{name}}}")

    def _call(self, line: int, text: str, cell: int) -> None:
        filled = _FIELD.sub(self._filled, text)
        self.grown += len(filled)
        if self.grown > 100 * LONGEST:
            raise Unreadable("its variables become too long; is it the right file?", line)
        if text.startswith("%cd"):
            self.folder = filled.partition(" ")[2].strip(" \"'\n")
        elif not text.startswith("%"):
            self._shell(filled, line, cell)

    def _filled(self, found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        name = (found[1] or found[2] or "").strip()
        if name in self.names:
            return str(self.names[name])
        return hole(found[0]) if found[1] and name.isidentifier() else found[0]

    def _shell(self, text: str, line: int, cell: int) -> None:
        try:
            script = read_posix(text, holes=True)
        except Unreadable as error:
            raise Unreadable(f"cell {cell}: {error.message}", line + error.line - 1) from error
        for each in script.commands:
            words = tuple(Word(word.text, word.line + line - 1) for word in each.words)
            folder = each.folder or self.folder
            self.commands.append(Command(words, folder, cell, each.environment))


def _without_calls(text: str) -> tuple[str, list[tuple[int, str]]]:
    """A cell's Python with `pass` where it calls a shell, and the calls with their lines."""
    out: list[str] = []
    calls: list[tuple[int, str]] = []
    lines = iter(enumerate(text.split("\n"), 1))
    for number, line in lines:
        found = _BANG.match(line)
        if not found:
            out.append("" if line.lstrip().startswith("%") else line)
            continue
        whole = (found[2] if found[2].startswith("%") else "") + found[3]
        out.append(f"{found[1]}pass")
        for _, more in _continued(line, lines):
            whole += "\n" + more
            out.append("")
        calls.append((number, whole))
    return "\n".join(out), calls


def _continued(line: str, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    while line.rstrip().endswith("\\"):
        number, line = next(lines, (0, ""))
        if not number:
            return
        yield number, line
