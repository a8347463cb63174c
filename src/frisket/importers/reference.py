"""The page of every option that `frisket import` knows, from the rules beside the readers."""

from collections.abc import Iterator, Mapping

from frisket.importers.base import IMPORT_FORMATS
from frisket.importers.models import TRAINERS, read_models
from frisket.importers.options import SHARED, OptionRule, read_rules

HEAD = """# Options of other trainers

Generated from `src/frisket/importers/*/rules.toml` by `make docs`; do not edit. How to import:
[Import](../import.md).

A name with `*` stands for all that begin or end so. What an option does at its value, and whether
the trainer did what it says, is told for each file by `frisket import`. Where a model stands for
several, the name of its weights tells which it is: `Z-Image-Turbo`, `flux1-kontext-dev`.
"""


def write_reference() -> str:
    """The page, one table a trainer and section."""
    names = sorted([*IMPORT_FORMATS.names(), SHARED])
    return HEAD + "".join(part for name in names for part in _write_trainer(name))


def _write_trainer(name: str) -> Iterator[str]:
    rules = read_rules(name)
    yield f"\n## {rules.title}\n"
    for section, options in rules.sections.items():
        if options:
            yield f"\n### `{section}`\n\n| option | here | |\n|---|---|---|\n"
            yield from _write_rows(options)
    if name in TRAINERS:
        yield "\n### Models\n\n| model | here: family, variant, expert |\n|---|---|\n"
        for kind, model in read_models()[name].items():
            yield f"| `{kind}` | {model.replace('/', ', ')} |\n"


def _write_rows(options: Mapping[str, OptionRule]) -> Iterator[str]:
    """Options that share a rule in one row."""
    shared: dict[tuple[str, str], list[str]] = {}
    for name, rule in options.items():
        shared.setdefault((rule.kind, rule.message), []).append(name)
    for (kind, text), names in shared.items():
        listed = ", ".join(f"`{name}`" for name in names)
        yield f"| {listed} | {kind} | {text.removeprefix('here ').replace('|', chr(92) + '|')} |\n"
