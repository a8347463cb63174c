"""`frisket explain`: the whole configuration in force, and where each value of it comes from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from frisket.config.load import check, read
from frisket.config.presets.lay import plan_for
from frisket.config.presets.plan import PresetPlan, describe_preset
from frisket.config.provenance import Key, Origin
from frisket.config.tree import FAMILY, Config, Data
from frisket.families.base import FAMILIES

SourceKind = Literal["default", "preset", "file", "command line", "model"]
OF_VARIANT = {  # of what is empty: section and key, and what the variant calls it
    ("preview", "steps"): "steps",
    ("preview", "guidance"): "guidance",
    ("preview", "width"): "width",
    ("preview", "height"): "height",
    ("preview", "frames"): "frames",
    ("timesteps", "density"): "density",
    ("model", "source"): "repo",
}


@dataclass(frozen=True, slots=True)
class ExplainedValue:
    """One value in force: None is empty. `comment` says where it comes from, and why."""

    key: Key
    value: Any
    source: SourceKind
    comment: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every value of a configuration in the order of its sections, and what a preset left out."""

    values: tuple[ExplainedValue, ...]
    notes: tuple[str, ...]


def explain_config(path: Path, overrides: Sequence[str] = ()) -> Explanation:
    """Read and check a config file with `a.b=c` overrides, and say where each value comes from.

    Raises ConfigError as `frisket train` would. Reads no weights and no data.
    """
    config, origin = read(path, overrides)
    check(config, origin)
    plan = plan_for(config.model_dump(mode="json"), FAMILY)
    notes = list(plan.tell_left_out()) if plan else []
    if plan:
        notes.insert(0, f"preset {plan.name}: {describe_preset(plan.name)}")
    leaves = _list_leaves(config.model_dump(mode="json"))
    values = (_explain_value(config, key, value, origin, plan) for key, value in leaves)
    return Explanation(tuple(values), tuple(notes))


def _list_leaves(tree: Any, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every value of a dumped configuration that is no table, before the tables beside it."""
    if not _is_table(tree):
        yield key, tree
        return
    pairs = list(tree.items() if isinstance(tree, Mapping) else enumerate(tree))
    for name, inner in sorted(pairs, key=lambda pair: _is_table(pair[1])):
        yield from _list_leaves(inner, (*key, name))


def _is_table(value: Any) -> bool:
    """Whether TOML writes it under a header of its own: a table, or a list of tables."""
    listed = isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)
    return listed or (isinstance(value, Mapping) and bool(value))


def _explain_value(
    config: Config, key: Key, value: Any, origin: Origin, plan: PresetPlan | None
) -> ExplainedValue:
    default = _find_default(key)
    source, exact = find_source(origin, key)
    if source in ("file", "command line") and (exact or value != default):
        return ExplainedValue(key, value, source, origin.where(key))
    setting = plan.find(key) if plan else None
    if source == "preset" and plan is not None and setting is not None:
        see = f" ({setting.link})" if setting.link else ""
        return ExplainedValue(key, value, "preset", f"preset {plan.name}: {setting.reason}{see}")
    if (variant_value := _find_own(config, key, value)) is not None:
        return ExplainedValue(key, value, "model", f"the model's own: {variant_value}")
    return ExplainedValue(key, value, "default", "default")


def find_source(origin: Origin, key: Key) -> tuple[SourceKind, bool]:
    """What gives a value, and whether that is written for just this key (not for a part above it).

    The command line is above the file, the file above the preset, the preset above the defaults.
    """
    places: tuple[tuple[SourceKind, Any], ...] = (
        ("command line", {**origin.options, **origin.overrides}),
        ("file", origin.lines),
        ("preset", origin.preset[1]),
    )
    for size in range(len(key), 0, -1):
        part = key[:size]
        for source, keys in places:
            table = any(len(other) > size and other[:size] == part for other in keys)
            if part in keys and (size == len(key) or not table):
                return source, size == len(key)
    return "default", False


def _find_default(key: Key) -> Any:
    """The default of a key; None where there is no such place without a file."""
    tree: Any = Config().model_dump(mode="json")
    if len(key) > 2 and "data" in key[:2]:  # of a data set, whichever: data.0, validation.data.0
        tree, key = Data(clips=Path()).model_dump(mode="json"), key[1 + key.index("data") + 1 :]
    for part in key:
        if not isinstance(tree, Mapping) or part not in tree:
            return None
        tree = tree[part]
    return tree


def _find_own(config: Config, key: Key, value: Any) -> Any:
    """What the variant has where the configuration says nothing; None where that is no answer."""
    if value not in (None, "", []):
        return None
    family = FAMILIES.load(config.model.family)
    name = config.model.variant or family.default
    variant = family.variants[name]
    if key == ("model", "variant"):
        return name
    if key[0] == "data" and key[2:] == ("resolution",):
        return f"{variant.width} x {variant.height}"
    if key[0] == "data" and key[2:] in (("frames",), ("fps",)):
        return f"{getattr(variant, str(key[2])):g}"
    attribute = OF_VARIANT.get((str(key[0]), str(key[-1]))) if len(key) == 2 else None
    return None if attribute is None else getattr(variant, attribute)
