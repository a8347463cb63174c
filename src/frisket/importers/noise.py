"""Noise levels of other trainers: what the readers of each of them share."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from frisket.families.base import FAMILIES
from frisket.importers.base import NoteKind
from frisket.objectives.kinds import Bounds, ShiftLaw
from frisket.objectives.shift import LAWS, SizeShift

DIFFUSION = "stable_diffusion"  # its models have no shift
BY_SIZE = "there the shift follows the size; "
AUTO = f'{BY_SIZE}so does timesteps.shift = "auto", by the same law'
PARTS = 40  # of a density that has no name here


@runtime_checkable
class NoiseOptions(Protocol):
    """A table of options, or several read as one: typed values, and notes are made of them."""

    def __contains__(self, name: str) -> bool:
        """Whether an option is given."""
        ...

    def text(self, name: str, default: str = "") -> str:
        """An option that is text."""
        ...

    def number(self, name: str, default: float = 0.0, *, low: float = -math.inf) -> float:
        """An option that is a number."""
        ...

    def whole(self, name: str, default: int = 0, *, low: int = 0) -> int:
        """An option that is a whole number."""
        ...

    def flag(self, name: str) -> bool:
        """An option that is true or false."""
        ...

    def say(self, name: str, kind: NoteKind, message: str) -> None:
        """Note what became of an option."""
        ...


def is_flow(model: Mapping[str, Any]) -> bool:
    """Whether a `[model]` predicts a flow; one that is not known here does not count."""
    return bool(model.get("family", DIFFUSION) != DIFFUSION)


def find_law(model: Mapping[str, Any]) -> SizeShift | None:
    """The law that a `[model]` of ours samples with; None where its shift is a number."""
    if "family" not in model:
        return None
    family = FAMILIES.load(model["family"])
    return family.variants[model.get("variant") or family.default].size_shift


def map_shift(model: Mapping[str, Any], name: ShiftLaw) -> tuple[str, str]:
    """`timesteps.shift` for a law by its name, and the sentence that says what becomes of it.

    "auto" where the law is that of the model, which is then the size's own.
    """
    if find_law(model) == replace(LAWS[name], frames=True):
        return "auto", AUTO
    return name, f'{BY_SIZE}so does timesteps.shift = "{name}", by that law whatever the model'


def map_bounds(low: float, high: float, way: Bounds) -> dict[str, Any]:
    """`low`, `high` and `bounds`, where they bound anything."""
    section: dict[str, Any] = {}
    if low > 0:
        section["low"] = round(low, 6)
    if high < 1:
        section["high"] = round(high, 6)
    return section | ({"bounds": way} if section and way != "squeeze" else {})


def describe_beyond_expert(model: Mapping[str, Any], low: float, high: float) -> str:
    """What to say where one expert was trained at levels that are the other's here; else empty."""
    if model.get("experts") not in ("high", "low"):
        return ""
    family = FAMILIES.load(model["family"])
    ranges = family.variants[model.get("variant") or family.default].experts
    start, end = ranges.get(model["experts"], (0.0, 1.0))
    if low >= start - 1e-6 and high <= end + 1e-6:
        return ""
    return (
        f"it trained this expert at t from {low:g} to {high:g}; here it is trained from {start:g}"
        f" to {end:g}, where sampling uses it: what falls outside is drawn again"
    )


def note_without_snr(table: NoiseOptions, option: str) -> None:
    """Say that min-SNR is not for flows, where it is asked for."""
    if table.number(option):
        message = "is for models that predict epsilon or v; this one predicts a flow"
        table.say(option, "not needed", message)


def tell_unread(table: NoiseOptions, names: Iterable[str], reason: str) -> None:
    """Say of each option that is given that nothing reads it there."""
    for name in names:
        if name in table:
            table.say(name, "not needed", reason)


def build_histogram(weights: list[float]) -> dict[str, Any]:
    """A density by the weights of equal parts; plain uniform where they are all the same."""
    top = max(weights)
    if top - min(weights) < 1e-6 * top:
        return {"density": "uniform"}
    return {"density": "histogram", "histogram": [round(weight / top, 4) for weight in weights]}
