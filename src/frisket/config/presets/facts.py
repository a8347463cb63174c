"""What a preset has to know of a model, without loading torch for it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).with_name("families.json")  # written by scripts/preset_families.py
WORDS = ("backgrounds", "bank_prompt", "template")  # of a family's suggestions


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """One variant of one family."""

    label: str  # "pocket image"
    video: bool
    sees: str  # nothing, first_frame or pictures: besides the text
    routes: bool  # whether tokens can pass its blocks by
    words: Mapping[str, Any]  # WORDS, as the family suggests them
    is_random: bool = False  # whether a run begins from random weights


def describe_family(family: Any) -> dict[str, Any]:
    """A family of the shelf as one entry of `families.json`."""
    likes = {name: variant.like or name for name, variant in family.variants.items()}
    routing = {name: _can_route(family, name) for name in dict.fromkeys(likes.values())}
    return {
        "default": family.default,
        # A model of which tokens are left out is trained from nothing, or from an earlier run's.
        "released": not family.leaves_out_tokens,
        "words": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in ((name, getattr(family.suggestions, name)) for name in WORDS)
        },
        "variants": {
            name: {
                "video": variant.video,
                "sees": variant.sees,
                "routes": routing[likes[name]],
            }
            for name, variant in family.variants.items()
        },
    }


def _can_route(family: Any, variant: str) -> bool:
    """Whether the variant's denoiser has blocks that tokens can pass by, by its tiny model.

    Not one that leaves tokens out by itself: that is what [patch_masking] is for.
    """
    if family.routes is None or family.leaves_out_tokens:
        return False
    from frisket.families.experts import experts_of  # noqa: PLC0415 - torch

    denoiser = next(iter(experts_of(family.tiny(variant).denoiser).values()))
    return len(family.routes.list_blocks(denoiser)) > 0


def find_facts(family: str, variant: str = "", source: str = "") -> ModelFacts | None:
    """Facts of a variant (empty: the family's first); None for a model that there is not.

    `source` is where its weights come from, empty for the family's own.

    Families that ship are in a table; one of another package is loaded, and torch with it.
    """
    entry = _read_table().get(family) or _load_entry(family)
    name = variant or (entry["default"] if entry else "")
    if entry is None or name not in entry["variants"]:
        return None
    facts = entry["variants"][name]
    return ModelFacts(
        f"{family} {name}",
        facts["video"],
        facts["sees"],
        facts["routes"],
        entry["words"],
        is_random=not entry["released"] and not source,
    )


@cache
def _read_table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return table


def _load_entry(name: str) -> dict[str, Any] | None:
    from frisket.families.base import FAMILIES  # noqa: PLC0415 - torch, for a family that is not ours

    return describe_family(FAMILIES.load(name)) if name in FAMILIES.names() else None
