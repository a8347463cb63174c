"""Lays a preset under a parsed config: above the defaults, below the file and the command line."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from frisket.config.data import Data
from frisket.config.presets.facts import find_facts
from frisket.config.presets.plan import PresetPlan, list_presets, plan_preset
from frisket.registry import suggest

REGIONS = {"subject": 1.0}  # the default table, which a table of one region more would replace
ROUTING = ("routing", "background")
_DATA = TypeAdapter(tuple[Data, ...])


def plan_for(tree: Mapping[str, Any], family: str) -> PresetPlan | None:
    """What the preset that a parsed config names sets for its model and its data; None without one.

    `family` is the one that is meant where none is named. ValueError for a preset that is not there
    or has no meaning for the model.
    """
    name = tree.get("preset", "")
    if not isinstance(name, str) or not name:
        return None
    if name not in list_presets():
        raise ValueError(
            f"preset: no preset is named {name!r}{suggest(name, list(list_presets()))}"
        )
    model = tree.get("model")
    table = model if isinstance(model, Mapping) else {}
    names = (table.get("family", family), table.get("variant", ""), table.get("source", ""))
    facts = find_facts(*map(str, names))
    masks = _has_masks(tree.get("data", ()))
    plan = plan_preset(name, facts, masks=masks, base=table.get("train") != "all")
    if table.get("train") in ("image_adapter", "controlnet"):
        plan = _leave_out_lora(plan)
    elif _has_control(tree.get("control")):
        plan = plan.leave_out(ROUTING, "a ControlNet adds to tokens that would pass by blocks")
    if _has_attention(tree.get("losses")):
        plan = plan.leave_out(ROUTING, "losses.attention reads blocks that tokens would pass by")
    regions = tree.get("regions")
    if not isinstance(regions, str) and not (isinstance(regions, dict) and "preset" in regions):
        return plan
    # A named table of regions is chosen whole, with its background.
    settings = tuple(setting for setting in plan.settings if setting.key[0] != "regions")
    return replace(plan, settings=settings)


def _leave_out_lora(plan: PresetPlan) -> PresetPlan:
    """Without what it says of a LoRA, and of tokens that pass by the layers of an adapter."""
    for setting in plan.settings:
        if setting.key[0] == "lora" or setting.key == ROUTING:
            plan = plan.leave_out(setting.key, "what is trained is no LoRA")
    return plan


def _has_control(table: Any) -> bool:
    """Whether a frozen ControlNet is beside the LoRA."""
    return isinstance(table, Mapping) and bool(table.get("source"))


def _has_attention(losses: Any) -> bool:
    """Whether the attention term is on: such a term and routing want the same blocks."""
    term = losses.get("attention", 0) if isinstance(losses, Mapping) else 0
    return bool(term.get("strength", 1) if isinstance(term, Mapping) else term)


def _has_masks(data: Any) -> bool:
    """Whether a data set has masks; what cannot be read is refused elsewhere."""
    try:
        sets = _DATA.validate_python(data)
    except ValidationError:
        return True
    return any(entry.masks.source != "none" for entry in sets)


def lay_under(tree: Mapping[str, Any], plan: PresetPlan) -> dict[str, Any]:
    """The parsed config with every value of the preset that it does not give itself."""
    config: dict[str, Any] = dict(tree)
    if any(setting.key[0] == "regions" for setting in plan.settings):
        config.setdefault("regions", dict(REGIONS))
    for setting in plan.settings:
        _lay(config, setting.key, setting.value)
    return config


def _lay(table: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    """Set `key` below `table` unless it is there; tables on the way are copied, not changed."""
    name, rest = key[0], key[1:]
    if rest:
        inner = table.get(name, {})
        if isinstance(inner, Mapping):
            table[name] = dict(inner)
            _lay(table[name], rest, value)
    elif name not in table:
        table[name] = value
    elif isinstance(table[name], Mapping) and not isinstance(value, Mapping) and value:
        # A loss term's own table: options of the file, strength of the preset. One that the preset
        # has off is turned on by its table, as without a preset.
        table[name] = {"strength": value, **table[name]}
