"""What can be counted of a tree of Python files: its folders, names, functions and docstrings.

Pure functions over syntax trees: nothing is imported. Every file is parsed once (`read_tree`).
"""

import ast
import collections
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.house.words import BARE, CLASSES, FUNCTIONS, MODULES, is_participle, private_word

FILES = 20  # a folder holds fewer
SHARING = 3  # as many files of a folder may begin with the same word
LINES = 400  # a file has fewer
LONGEST = 80  # a function has at most so many lines
BRANCHES = 12  # and at most so many ways through it
SHORT = 3  # a docstring of so few words repeats the signature


@dataclass(frozen=True, slots=True)
class Place:
    """A fault: file (relative to the root), line, name and, where there is one, its size."""

    path: str
    line: int
    name: str
    size: int = 0

    def __str__(self) -> str:
        size = f" ({self.size})" if self.size else ""
        return f"{self.path}:{self.line}: {self.name}{size}"

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0] or "."


@dataclass(slots=True)
class Module:
    """One file: its lines and everything in it that has a name."""

    path: str
    lines: int
    locals: list[Place] = field(default_factory=list)  # variables, parameters, attributes
    functions: list[Place] = field(default_factory=list)  # size = lines
    branches: list[Place] = field(default_factory=list)  # size = ways through a function
    classes: list[Place] = field(default_factory=list)
    aliases: list[Place] = field(default_factory=list)  # of types, at the top of the file
    short: list[Place] = field(default_factory=list)  # docstrings


@dataclass(slots=True)
class Tree:
    """A folder of Python files and of what lies beside them."""

    modules: list[Module]
    files: list[str]  # every file's path, relative, whatever its suffix


def read_tree(root: Path) -> Tree:
    """Every file under `root`; Python files are parsed. Raises SyntaxError naming the file."""
    paths = sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    )
    modules = [
        read_module(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))
        for path in paths
        if path.suffix == ".py"
    ]
    return Tree(modules, [path.relative_to(root).as_posix() for path in paths])


def read_module(path: str, text: str) -> Module:
    """What one file names."""
    module = Module(path, text.count("\n") + (not text.endswith("\n") and bool(text)))
    tree = ast.parse(text, filename=path)
    _note_docstring(module, tree)
    for node in ast.walk(tree):
        for line, name in _bound(node):
            module.locals.append(Place(path, line, name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            module.functions.append(Place(path, node.lineno, node.name, size))
            module.branches.append(Place(path, node.lineno, node.name, count_branches(node)))
            _note_docstring(module, node)
        elif isinstance(node, ast.ClassDef):
            module.classes.append(Place(path, node.lineno, node.name))
            _note_docstring(module, node)
    for node in tree.body:
        if alias := _alias(node):
            module.aliases.append(Place(path, node.lineno, alias))
    return module


def _bound(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of what a node binds, functions and classes apart."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.id
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.lineno, node.attr
    elif isinstance(node, ast.arg):
        yield node.lineno, node.arg
    elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        yield node.lineno, node.name
    elif isinstance(node, ast.alias) and node.asname:
        yield node.lineno, node.asname


def _alias(node: ast.stmt) -> str | None:
    """The name of `Progress = Callable[...]` at the top of a file."""
    if isinstance(node, ast.TypeAlias if hasattr(ast, "TypeAlias") else ()):
        return node.name.id
    if not (isinstance(node, ast.Assign) and len(node.targets) == 1):
        return None
    target = node.targets[0]
    typed = isinstance(node.value, ast.Subscript | ast.BinOp | ast.Attribute | ast.Name)
    if typed and isinstance(target, ast.Name) and re.fullmatch(r"[A-Z]+[a-z]\w*", target.id):
        return target.id
    return None


def _note_docstring(module: Module, node: ast.AST) -> None:
    text = ast.get_docstring(node, clean=False)
    if text is not None and len(text.split()) <= SHORT:
        name = f"{getattr(node, 'name', 'module')}: {text.strip()!r}"
        module.short.append(Place(module.path, getattr(node, "lineno", 1), name))


def count_branches(function: ast.AST) -> int:
    """Ways through: 1 + if, loop, except, with, comprehension, case, `and`, `or`, `x if y`.

    Stricter than ruff's C901, which sees no expression. A function inside counts for itself only.
    """
    total = 1
    nodes = list(ast.iter_child_nodes(function))
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        total += _weigh_branch(node)
        nodes += ast.iter_child_nodes(node)
    return total


def _weigh_branch(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1
    single = ast.If | ast.IfExp | ast.For | ast.AsyncFor | ast.While | ast.ExceptHandler
    return int(isinstance(node, single | ast.With | ast.AsyncWith | ast.match_case))


def list_words(tree: Tree) -> list[Place]:
    """Every place that binds a private word, or a name that names.md renames."""
    places = []
    for module in tree.modules:
        stem = module.path.rpartition("/")[2].removesuffix(".py")
        named = [
            *((place, {}) for place in module.locals),
            *((place, FUNCTIONS) for place in module.functions),
            *((place, CLASSES) for place in module.classes),
            (Place(module.path, 1, stem), MODULES),
        ]
        for place, table in named:
            if private_word(place.name) or place.name.strip("_").lower() in table:
                places.append(Place(place.path, place.line, place.name))
    return sorted(places, key=lambda place: (place.path, place.line, place.name))


def list_bare(tree: Tree) -> list[Place]:
    """Variables that are a participle or determiner and nothing else: `kept`, `several`."""
    return [
        place
        for module in tree.modules
        for place in module.locals
        if place.name.strip("_").lower() in BARE and not private_word(place.name)
    ]


def list_participles(tree: Tree) -> list[Place]:
    """Functions that begin with a past participle: `_named`, `kept_of`."""
    return [
        Place(place.path, place.line, place.name)
        for module in tree.modules
        for place in module.functions
        if is_participle(place.name)
    ]


def list_doubles(tree: Tree) -> list[Place]:
    """Classes whose name means another thing in another file; a name with `_` is its file's own."""
    return _repeated(place for module in tree.modules for place in module.classes)


def list_double_aliases(tree: Tree) -> list[Place]:
    """Aliases of types (`Progress = Callable[...]`) that another file defines too."""
    aliases = {place for module in tree.modules for place in module.aliases}
    classes = (place for module in tree.modules for place in module.classes)
    return [place for place in _repeated([*aliases, *classes]) if place in aliases]


def _repeated(places: Iterable[Place]) -> list[Place]:
    by_name: dict[str, list[Place]] = collections.defaultdict(list)
    for place in places:
        if not place.name.startswith("_"):
            by_name[place.name].append(place)
    return [
        place
        for name in sorted(by_name)
        for place in sorted(by_name[name], key=lambda place: (place.path, place.line))
        if len({other.path for other in by_name[name]}) > 1
    ]


def list_long_functions(tree: Tree) -> list[Place]:
    """Functions of more than `LONGEST` lines, the longest first."""
    places = (place for module in tree.modules for place in module.functions)
    return _largest(places, LONGEST)


def list_branched(tree: Tree) -> list[Place]:
    """Functions with more than `BRANCHES` ways through them, the worst first."""
    places = (place for module in tree.modules for place in module.branches)
    return _largest(places, BRANCHES)


def list_long_files(tree: Tree) -> list[Place]:
    """Files of `LINES` lines or more."""
    files = (Place(module.path, 1, "file", module.lines) for module in tree.modules)
    return _largest(files, LINES - 1)


def list_short_docstrings(tree: Tree) -> list[Place]:
    """Docstrings of `SHORT` words or fewer."""
    return [place for module in tree.modules for place in module.short]


def count_folders(tree: Tree) -> dict[str, int]:
    """Files in each folder, whatever their suffix; "." is the root."""
    return dict(collections.Counter(_folder(path) for path in tree.files))


def list_full_folders(tree: Tree) -> list[Place]:
    """Folders of `FILES` files or more."""
    folders = (Place(folder, 1, "folder", size) for folder, size in count_folders(tree).items())
    return _largest(folders, FILES - 1)


def list_prefixes(tree: Tree) -> list[Place]:
    """Words that more than `SHARING` files of a folder begin with (`x.py`, `x.toml`: one)."""
    stems = {(_folder(path), path.rpartition("/")[2].partition(".")[0]) for path in tree.files}
    counts = collections.Counter(
        (folder, stem.strip("_").partition("_")[0]) for folder, stem in stems
    )
    places = (Place(folder, 1, f"{word}_", size) for (folder, word), size in counts.items())
    return _largest(places, SHARING)


def _largest(places: Iterable[Place], limit: int) -> list[Place]:
    over = [place for place in places if place.size > limit]
    return sorted(over, key=lambda place: (-place.size, place.path, place.line))


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "."


MEASURES = {
    "words": list_words,
    "bare": list_bare,
    "participles": list_participles,
    "classes": list_doubles,
    "aliases": list_double_aliases,
    "functions": list_long_functions,
    "branches": list_branched,
    "docstrings": list_short_docstrings,
    "files": list_long_files,
    "folders": list_full_folders,
    "prefixes": list_prefixes,
}
