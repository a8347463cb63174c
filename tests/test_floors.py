"""What the import linter cannot see of the floors: who knows a family by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import frisket
from frisket.families.base import FAMILIES

SOURCE = Path(frisket.__file__).parent
# Under the contract, or of one family by nature (its world; the words of other trainers' files).
APART = (
    *("families", "pocket", "data/layout", "data/onetrainer", "data/simpletuner"),
    *("data/noise_levels", "data/flags", "data/kohya_ss", "data/qinglong", "data/sources"),
    *("data/shells", "importers", "adapters/image/layouts"),  # published files, each of one family
)
# Variants whose names mean nothing else.
VARIANTS = frozenset({"sdxl", "sdxl-v", "sd15", "sd1", "kontext", "schnell", "krea-dev"})
DEFAULTS = (  # may name one: what is taken where none is named
    *("config/tree.py", "config/maskgen.py", "maskgen/backends/attention.py"),
)
SHARED = frozenset(  # modules of frisket.families that are of no one family
    {"base", "blocks", "experts", "names", "quantise", "standard", "suggestions", "weights"}
    | {
        "control",
        "presets",
        "text_training",
        "key_map",
        "listing",
        "streams",
        "routes",
        "passages",
        "whole_model",
    }
)


def above() -> list[Path]:
    files = sorted(SOURCE.rglob("*.py"))
    apart = (*APART, *DEFAULTS)
    return [each for each in files if not each.relative_to(SOURCE).as_posix().startswith(apart)]


def asked(tree: ast.AST, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Line and name of every text that is one: compared with, keyed by, bound or handed over."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names:
            yield node.lineno, node.value


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every module of one family that is imported."""
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "frisket.families":
            modules = [f"{node.module}.{each.name}" for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        for module in modules:
            if module.startswith("frisket.families.") and module.split(".")[2] not in SHARED:
                yield node.lineno, module
            if module.startswith("frisket.families.control.nets."):
                yield node.lineno, module


def test_nothing_above_the_families_asks_for_one_by_name():
    names = frozenset(FAMILIES.names()) | VARIANTS
    found = [
        f"{path.relative_to(SOURCE)}:{line}: {name}"
        for path in above()
        for tree in [ast.parse(path.read_text(encoding="utf-8"))]
        for line, name in (*asked(tree, names), *imported(tree))
    ]
    assert not found, "put what differs on the contract, frisket.families.base: " + "; ".join(found)


@pytest.mark.parametrize(
    "code",
    [
        'family == "pocket"',
        'family in ("wan", "flux")',
        'TABLE = {"wan": 1}',
        'SPECIAL = "wan"',
        'SPECIAL: tuple[str, ...] = ("pocket", "wan")',
        'TABLE.get("wan")',
        'TABLE["wan"]',
        'FAMILIES.load("wan")',
        'match family:\n    case "wan":\n        pass',
        'def start(family="wan"): ...',
        'start(family="wan")',
        'config = {**config, **dict(family="wan")}',
        'family in WIDE | {"wan"}',
    ],
)
def test_it_would_see_one(code):
    assert list(asked(ast.parse(code), frozenset({"pocket", "wan"})))


@pytest.mark.parametrize(
    "code",
    [
        "from frisket.families.shared.qwen_references import AREA",
        "from frisket.families import wan_cards",
        "import frisket.families.models.wan.family",
        "from frisket.families.control.nets.wan import CONTROL",
    ],
)
def test_it_would_see_a_family_imported(code):
    assert list(imported(ast.parse(code)))
