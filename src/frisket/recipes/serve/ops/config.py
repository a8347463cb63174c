"""Looks at a configuration with what the shelves know: refusals, choices, presets."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from frisket.config.data import PRESETS
from frisket.config.load import ConfigError, check, read
from frisket.config.tree import Memory, Model, Run
from frisket.families.base import FAMILIES, Variant
from frisket.losses.base import TERMS
from frisket.maskgen.base import BACKENDS
from frisket.recipes.init.model_choice import Recipe, read_recipes
from frisket.recipes.init.model_tables import build_memory, suggest_precision
from frisket.recipes.serve.session import Answer, Session
from frisket.runs.opening import opening
from frisket.runs.refusals import refusals
from frisket.training.optim import ALIASES

_Key = list[str | int]


def check_config(session: Session, args: dict[str, Any]) -> Answer:
    """All that `frisket train` would refuse of a `text` at `path`, and its first lines otherwise.

    `problems` are about keys, `refusals` are sentences; nothing is written and no hub is asked.
    """
    path = Path(str(args["path"]))
    try:
        config, origin = read(path, text=str(args["text"]))
        check(config, origin)
    except ConfigError as error:
        problems = [
            {"key": list(problem.key), "line": problem.line, "message": problem.message}
            for problem in error.problems
        ] or [{"key": [], "line": None, "message": str(error)}]
        return Answer({"problems": problems, "refusals": [], "opening": []})
    session.check()
    refused = [str(error) for error in refusals(config)]
    lines = [] if refused else list(opening(config))
    return Answer({"problems": [], "refusals": refused, "opening": lines})


def list_choices(session: Session, _: dict[str, Any]) -> Answer:
    """The names that the shelves know: families, loss terms with their options, optimizers."""
    families = []
    for name in FAMILIES.names():
        session.check()
        family = FAMILIES.load(name)
        variants = [_describe_variant(key, card) for key, card in family.variants.items()]
        families.append({"name": name, "default": family.default, "variants": variants})
    return Answer(
        {
            "families": families,
            "terms": {name: list(_list_term_options(name)) for name in TERMS.names()},
            "optimizers": sorted(ALIASES),
            "backends": BACKENDS.names(),
            "region_presets": PRESETS,
        }
    )


def _describe_variant(name: str, card: Variant) -> dict[str, Any]:
    return {
        "name": name,
        "repo": card.repo,
        "video": card.video,
        "width": card.width,
        "height": card.height,
        "frames": card.frames,
        "sees": card.sees,
        "spatial": card.grid.spatial,
        "temporal": card.grid.temporal,
        "experts": list(card.experts),
    }


def _list_term_options(name: str) -> Iterator[dict[str, Any]]:
    """The options of a loss term, with plain defaults."""
    for field in dataclasses.fields(TERMS.load(name)):  # type: ignore[arg-type]
        default = None if field.default is dataclasses.MISSING else field.default
        plain_default = default if isinstance(default, str | int | float | bool) else None
        yield {"name": field.name, "type": str(field.type), "default": plain_default}


def plan_preset(_: Session, args: dict[str, Any]) -> Answer:
    """The changes that make a configuration one for a model on a card of so many GB.

    `card` 0 is no card of the table: what `frisket init` writes for the model. Data, regions,
    losses and length stay as they are. ValueError for a model that is not on the shelf.
    """
    family, variant, card = str(args["family"]), str(args["variant"]), int(args["card"])
    if family not in FAMILIES.names() or variant not in FAMILIES.load(family).variants:
        raise ValueError(f"there is no model {family} {variant}; `frisket families` lists them")
    rows = [row for row in read_recipes() if (row.family, row.variant) == (family, variant)]
    recipe = next((row for row in rows if row.card == card), None)
    if card and recipe is None:
        cards = ", ".join(f"{row.card}" for row in rows) or "none"
        raise ValueError(f"{family} {variant} has no preset for {card} GB; there are: {cards}")
    changes = list(_list_changes(family, variant, recipe, args))
    return Answer({"changes": changes, "peak_gib": recipe.peak if recipe else None})


def _list_changes(
    family: str, variant: str, recipe: Recipe | None, args: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    shelf = FAMILIES.load(family)
    card, usual_model = shelf.variants[variant], Model()
    precision = suggest_precision(shelf.suggestions).get("precision", Run().precision)
    memory = build_memory(family, variant, "frisket.toml", recipe)
    tables: dict[tuple[str, ...], dict[str, Any]] = {
        ("model",): {"family": family, "variant": variant, "dtype": precision},
        ("memory",): {**(recipe.memory if recipe else {}), **(memory.unwrap() if memory else {})},
        ("run",): {"precision": precision, "batch": recipe.batch if recipe else 1},
    }
    defaults = {"model": usual_model, "memory": Memory(), "run": Run()}
    reset = {"model": ("source", "revision", "experts"), "memory": tuple(Memory.model_fields)}
    for (section,), values in tables.items():
        settings = dict.fromkeys(reset.get(section, ()), None) | values
        for name, value in settings.items():
            plain_value = getattr(defaults[section], name)
            if value is None or (value == plain_value and name not in ("family", "variant")):
                yield {"key": [section, name], "remove": True, "maybe": True}
            else:
                yield {"key": [section, name], "value": value}
    yield from _list_data_changes(card, recipe, int(args.get("sets", 0)))


def _list_data_changes(card: Variant, recipe: Recipe | None, sets: int) -> Iterator[dict[str, Any]]:
    """Size and length of the clips of every data set."""
    width, height = recipe.resolution if recipe else (card.width, card.height)
    frames = (recipe.frames if recipe else None) or card.frames
    for number in range(sets):
        key: _Key = ["data", number]
        yield {"key": [*key, "resolution"], "value": [width, height]}
        if card.video:
            yield {"key": [*key, "frames"], "value": frames}
        else:
            yield {"key": [*key, "frames"], "remove": True, "maybe": True}


OPS = {
    "config.check": check_config,
    "config.choices": list_choices,
    "config.preset": plan_preset,
}
