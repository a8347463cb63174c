"""The page of every option that `frisket import` knows, from the rules beside the readers."""

from collections.abc import Iterator, Mapping

from frisket.importers.base import LAYOUTS
from frisket.importers.models import TRAINERS, models
from frisket.importers.options import SHARED, Rule, rules_of

HEAD = """# Options of other trainers

Generated from `src/frisket/importers/*/rules.toml` by `make docs`; do not edit. How to import:
[Import](../import.md).

A name with `*` stands for all that begin or end so. What an option does at its value, and whether
the trainer did what it says, is told for each file by `frisket import`. Where a model stands for
several, the name of its weights tells which it is: `Z-Image-Turbo`, `flux1-kontext-dev`.
"""


def reference() -> str:
    """The page, one table a trainer and section."""
    names = sorted([*LAYOUTS.names(), SHARED])
    return HEAD + "".join(part for name in names for part in _trainer(name))


def _trainer(name: str) -> Iterator[str]:
    rules = rules_of(name)
    yield f"\n## {rules.title}\n"
    for section, options in rules.sections.items():
        if options:
            yield f"\n### `{section}`\n\n| option | here | |\n|---|---|---|\n"
            yield from _rows(options)
    if name in TRAINERS:
        yield "\n### Models\n\n| model | here: family, variant, expert |\n|---|---|\n"
        for kind, named in models()[name].items():
            yield f"| `{kind}` | {named.replace('/', ', ')} |\n"


def _rows(options: Mapping[str, Rule]) -> Iterator[str]:
    """Options that share a rule in one row."""
    shared: dict[tuple[str, str], list[str]] = {}
    for name, rule in options.items():
        shared.setdefault((rule.kind, rule.message), []).append(name)
    for (kind, said), names in shared.items():
        listed = ", ".join(f"`{name}`" for name in names)
        yield f"| {listed} | {kind} | {said.removeprefix('here ').replace('|', chr(92) + '|')} |\n"
