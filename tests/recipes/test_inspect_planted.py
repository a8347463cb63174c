"""The doctor of data sets, measured: what it finds of planted faults, and says of clean sets."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from frisket.evaluation.findings import Finding
from frisket.recipes.config import Config
from frisket.recipes.inspect import inspect
from tests.evaluation.drawn import TRIGGER
from tests.evaluation.planted import KINDS, PlantedSet, plant, plant_rolls

# Which findings name a fault. A scrap of a mask may rightly be called tiny, a drawn outline too.
NAMES = {
    "misaligned": {"misaligned"},
    "inverted": {"inverted"},
    "black": {"empty"},
    "white": {"full"},
    "outlier": {"unusual size", "tiny"},
    "thin": {"lost at the grid"},
    "aspect": {"aspect"},
    "background named": {"background named"},
    "trigger": {"trigger"},
    "cropped": {"cropped away"},
    "missing": {"missing"},
    "orphan": {"orphan"},
    "ambiguous": {"ambiguous"},
    "broken": {"unreadable"},
    "encoding": {"caption encoding"},
    "twin": {"duplicate", "near-duplicate", "overlap"},
    "same words": {"same caption"},
    "flicker": {"flicker"},
}


def looked_at(made: PlantedSet, holdout: int = 0, **data: object) -> list[Finding]:
    table = {
        "clips": made.folder / "clips",
        "masks": made.folder / "masks",
        "trigger": TRIGGER,
        "resolution": 256,
        **data,
    }
    variant = "video" if "frames" in data else "image"
    config = Config.model_validate(
        {
            "data": [table],
            "model": {"family": "stable_diffusion", "variant": "sdxl"}
            if variant == "image"
            else {"family": "wan"},
            "validation": {"holdout": holdout},
        }
    )
    return inspect(config, made.folder / "inspect")


def found(made: PlantedSet, findings: list[Finding]) -> tuple[Counter, list[tuple[str, str]]]:
    """Faults that were named, by kind, and those that were not."""
    hits: Counter = Counter()
    missed = []
    for kind, clip in made.faults:
        named = [
            one
            for one in findings
            if one.kind in NAMES[kind]
            and (one.clip == clip or (kind == "orphan" and f"/{clip}." in one.sentence))
        ]
        if named:
            hits[kind] += 1
        else:
            missed.append((kind, clip))
    return hits, missed


def alarms(made: PlantedSet, findings: list[Finding]) -> list[Finding]:
    """Findings of clips that nothing is wrong with."""
    bad = {clip for _, clip in made.faults}
    # Two clips may share one fault: the one it was copied from is not told, but may be.
    return [one for one in findings if one.clip not in bad and one.kind != "orphan"]
