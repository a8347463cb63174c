"""Writes a preset into the config that `frisket init` makes: every value with its reason."""

from typing import Any

import tomlkit

from frisket.config.presets.plan import PresetPlan, PresetSetting


def name_preset(document: tomlkit.TOMLDocument, plan: PresetPlan) -> None:
    """Write the preset's name above all sections, with what of it is left out."""
    for line in plan.tell_left_out():
        document.add(tomlkit.comment(line))
    document.add("preset", tomlkit.item(plan.name))
    document["preset"].comment("its values stand below, measured: docs/presets.md")


def write_values(document: tomlkit.TOMLDocument, plan: PresetPlan) -> None:
    """Set every value of the preset in its section, with its reason; init's own give way."""
    for setting in plan.settings:
        _put(document, setting)


def _put(document: tomlkit.TOMLDocument, setting: PresetSetting) -> None:
    table: Any = document
    for part in setting.key[:-1]:
        if part not in table:
            table.add(part, tomlkit.table())
        table = table[part]
    item: Any = tomlkit.item(setting.value)
    if isinstance(setting.value, list):
        item.multiline(True)
    item.comment(f"{setting.reason} ({setting.link})" if setting.link else setting.reason)
    table[setting.key[-1]] = item
