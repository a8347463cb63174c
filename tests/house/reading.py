"""Reads a tree of Python files into what can be counted of it; imports none of them."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SHORT = 3  # a docstring of so few words repeats the signature

Function = ast.FunctionDef | ast.AsyncFunctionDef
# Ways through a function that one node adds; `BoolOp` adds one for every further operand.
BRANCHES = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.With),
    *(ast.AsyncWith, ast.match_case, ast.comprehension),
)
LEAVES = (ast.Constant, ast.expr_context, ast.operator, ast.cmpop, ast.unaryop, ast.boolop)


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a file: path relative to the root, line and, where there is one, its size."""

    path: str
    line: int
    name: str
    size: int = 0

    def __str__(self) -> str:
        size = f" ({self.size})" if self.size else ""
        return f"{self.path}:{self.line}: {self.name}{size}"

    @property
    def folder(self) -> str:
        return folder_of(self.path)


@dataclass(frozen=True, slots=True)
class Named:
    """A function: its lines, the ways through it, and whether its name is read as a value."""

    place: Place
    lines: int
    branches: int
    value: bool  # a property: a noun by right
    command: bool  # of the command line: its name is a promise


@dataclass(slots=True)
class Module:
    """One file: its lines and everything in it that has a name."""

    path: str
    lines: int
    bindings: list[Place] = field(default_factory=list)  # variables, parameters, attributes
    functions: list[Named] = field(default_factory=list)
    classes: list[Place] = field(default_factory=list)
    aliases: list[Place] = field(default_factory=list)  # of types, at the top of the file
    short: list[Place] = field(default_factory=list)  # docstrings


@dataclass(slots=True)
class Tree:
    """A folder of Python files and of what lies beside them."""

    modules: list[Module]
    files: list[str]  # every file's path, relative, whatever its suffix


def folder_of(path: str) -> str:
    """The folder of a relative path; "." is the root."""
    return path.rpartition("/")[0] or "."


def read_tree(root: Path) -> Tree:
    """Every file under `root`; Python files are parsed. SyntaxError names the file."""
    paths = sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
        if "static" not in path.parts  # the built page: web/ is what is written
    )
    modules = [
        read_module(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
        for path in paths
        if path.suffix == ".py"
    ]
    return Tree(modules, [path.relative_to(root).as_posix() for path in paths])


def read_module(path: str, text: str) -> Module:
    """What one file names."""
    tree = ast.parse(text, filename=path)
    module = Module(path, len(text.splitlines()))
    _note_docstring(module, tree)
    module.aliases += [
        Place(path, node.lineno, name) for node in tree.body for name in _alias(node)
    ]
    _scan(module, tree)
    return module


def _scan(module: Module, node: ast.AST) -> int:
    """Note every name below a node; the branches in it, those of functions inside apart."""
    branches = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, LEAVES):
            continue
        if isinstance(child, ast.Name):
            if isinstance(child.ctx, ast.Store):
                module.bindings.append(Place(module.path, child.lineno, child.id))
        elif isinstance(child, Function):
            _note_function(module, child)
        elif isinstance(child, ast.ClassDef):
            module.classes.append(Place(module.path, child.lineno, child.name))
            _note_docstring(module, child)
            _scan(module, child)
        else:
            if name := _bind(child):
                line = getattr(child, "lineno", 1)
                module.bindings.append(Place(module.path, line, name))
            branches += isinstance(child, BRANCHES)
            branches += len(child.values) - 1 if isinstance(child, ast.BoolOp) else 0
            branches += _scan(module, child)
    return branches


def _note_function(module: Module, node: Function) -> None:
    words = [ast.unparse(decorator) for decorator in node.decorator_list]
    function = Named(
        place=Place(module.path, node.lineno, node.name),
        lines=(node.end_lineno or node.lineno) - node.lineno + 1,
        branches=1 + _scan(module, node),
        value=any(re.search(r"property$|\.setter$", word) for word in words),
        command=any(re.search(r"\.(command|callback)\b", word) for word in words),
    )
    module.functions.append(function)
    _note_docstring(module, node)


def _note_docstring(module: Module, node: Function | ast.ClassDef | ast.Module) -> None:
    text = ast.get_docstring(node, clean=False)
    if text is not None and len(text.split()) <= SHORT:
        name = getattr(node, "name", "module")
        module.short.append(Place(module.path, getattr(node, "lineno", 1), name))


def _bind(node: ast.AST) -> str | None:
    """What a node binds; variables, functions and classes apart."""
    if isinstance(node, ast.Attribute):
        return node.attr if isinstance(node.ctx, ast.Store) else None
    if isinstance(node, ast.arg):
        return node.arg
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
        return node.name
    return node.asname if isinstance(node, ast.alias) else None


def _alias(node: ast.stmt) -> Iterator[str]:
    """The name of `Progress = Callable[...]`; capitals alone are a constant."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target = node.targets[0]
        typed = isinstance(node.value, ast.Subscript | ast.BinOp | ast.Attribute | ast.Name)
        if typed and isinstance(target, ast.Name) and re.match(r"[A-Z]\w*[a-z]", target.id):
            yield target.id
