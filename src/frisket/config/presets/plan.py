"""What a preset sets for one model and one data set, why, and which part of it is left out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from frisket.config.presets.facts import ModelFacts
from frisket.disk.untrusted import parse_toml

TABLE = Path(__file__).with_name("presets.toml")
EFFECTS = "docs/effects.md"
PresetKey = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PresetSetting:
    """One value of a preset, and the measurement it comes from."""

    key: PresetKey
    value: Any
    reason: str
    see: str = ""  # heading of docs/effects.md, as its address writes it

    @property
    def link(self) -> str:
        """The page that holds the numbers; empty where nothing was measured."""
        return f"{EFFECTS}#{self.see}" if self.see else ""


@dataclass(frozen=True, slots=True)
class PresetPlan:
    """A preset for one model: what it sets, and what of it is left out (key and why)."""

    name: str
    settings: tuple[PresetSetting, ...]
    left_out: tuple[tuple[PresetKey, str], ...] = ()

    def find(self, key: tuple[Any, ...]) -> PresetSetting | None:
        """The setting of a key, or of what it stands in."""
        return next((entry for entry in self.settings if key[: len(entry.key)] == entry.key), None)

    def has_value(self, key: PresetKey, value: Any) -> bool:
        """Whether it sets `key` to `value`."""
        return any((entry.key, entry.value) == (key, value) for entry in self.settings)

    def leave_out(self, key: PresetKey, reason: str) -> "PresetPlan":
        """The same without a setting; itself where it does not set it."""
        if not any(entry.key == key for entry in self.settings):
            return self
        settings = tuple(entry for entry in self.settings if entry.key != key)
        return replace(self, settings=settings, left_out=(*self.left_out, (key, reason)))

    def tell_left_out(self) -> Iterator[str]:
        """One sentence a reason: "preset style leaves out swap.rate: no data set has masks"."""
        for reason in dict.fromkeys(reason for _, reason in self.left_out):
            keys = [".".join(key) for key, lack in self.left_out if lack == reason]
            yield f"preset {self.name} leaves out {', '.join(keys)}: {reason}"


def list_presets() -> tuple[str, ...]:
    """The names there are."""
    return tuple(_read_presets())


def describe_preset(name: str) -> str:
    """What a preset is for, in a sentence."""
    about: str = _read_presets()[name]["about"]
    return about


def plan_preset(
    name: str, model: ModelFacts | None, *, masks: bool, base: bool = True
) -> PresetPlan:
    """What the preset `name` sets for a model, where data sets have masks or have none.

    `base` is whether the base stays beside what is trained: not with `model.train = "all"`.

    KeyError for a name that there is not. ValueError for a model it has no meaning for. A model
    that is not known takes what every model can do; its name is refused elsewhere.
    """
    preset = _read_presets()[name]
    if preset.get("of") == "video" and model is not None and not model.video:
        raise ValueError(
            f"preset: {name} is for models that make clips, {model.label} makes pictures; take a"
            " video model, or another preset"
        )
    if model is not None and model.is_random:
        raise ValueError(
            f"preset: {name} is for a model that has learnt something; {model.label} has no"
            " released weights and begins from random ones: leave preset out, or set model.source"
        )
    settings: dict[PresetKey, PresetSetting] = {}
    lacking: dict[PresetKey, str] = {}
    for row in preset["settings"]:
        key = tuple(row["key"].split("."))
        needs = (_find_lack(need, model, masks=masks, base=base) for need in row["needs"])
        lacks = next(filter(None, needs), "")
        if lacks:
            lacking.setdefault(key, lacks)
        else:
            value = model.words[row["words"]] if "words" in row and model else row.get("value")
            settings[key] = PresetSetting(key, value, row["reason"], row.get("see", ""))
    left_out = tuple((key, reason) for key, reason in lacking.items() if key not in settings)
    return PresetPlan(name, tuple(settings.values()), left_out)


def _find_lack(need: str, model: ModelFacts | None, *, masks: bool, base: bool) -> str:
    """Why a need is not met; empty where it is."""
    if need == "masks":
        return "" if masks else "no data set has masks"
    if need == "base":
        return "" if base else 'with model.train = "all" no base stays beside what is trained'
    if model is None:
        return "the model is not known"
    is_met, lack = {
        "routes": (model.routes, "has no blocks that tokens can pass by"),
        "words": (model.sees == "nothing", "paints nothing from words alone"),
        "first_frame": (model.sees == "first_frame", "is shown no first frame"),
        "no_pictures": (
            model.sees != "pictures",
            "is shown the picture it edits, which would still hold the old background",
        ),
    }[need]
    return "" if is_met else f"{model.label} {lack}"


@cache
def _read_presets() -> Mapping[str, Any]:
    """The table, `like` followed: every preset with `about` and all its rows."""
    table = parse_toml(TABLE.read_text(encoding="utf-8"))
    presets: dict[str, Any] = {}
    for name, entry in table.items():
        rows = [*presets[entry["like"]]["settings"]] if "like" in entry else []
        rows += [{"needs": (), **row} for row in entry.get("settings", ())]
        presets[name] = {**entry, "settings": rows}
    return presets
