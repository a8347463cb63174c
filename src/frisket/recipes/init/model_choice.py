"""Which model `frisket init` takes: what the clips are, and what the card at hand has room for."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from frisket.config.tree import FAMILY
from frisket.families.base import FAMILIES
from frisket.inspection.dataset_scan import DatasetScan

GIB = 2**30
OWN, SLACK = 0.7, 1.06  # GiB that CUDA takes, and the allocator's share, as `doctor_memory` counts
OFFERED = 3


@dataclass(frozen=True, slots=True)
class Recipe:
    """One of the example recipes: a model on a card, with what makes it fit there."""

    family: str
    variant: str
    card: int  # GB, as cards are sold
    peak: float | None  # GiB, predicted
    memory: dict[str, Any]
    resolution: tuple[int, int]
    frames: int | None
    batch: int
    apart: bool  # its text encoder does not fit the card
    billions: float  # parameters of its denoiser
    gigabytes: float  # of its denoiser in bfloat16, to download

    @property
    def name(self) -> str:
        """As it is read out."""
        return f"{self.family} {self.variant}"

    def fits(self, room: float) -> bool:
        """Whether training, by its predicted peak, goes into `room` GiB of a card."""
        return self.peak is not None and self.peak * SLACK + OWN <= room

    @property
    def easy(self) -> bool:
        """Whether nothing has to wait on the CPU, or be encoded there first."""
        return not self.memory.get("swap_blocks") and not self.apart


@cache
def read_recipes() -> tuple[Recipe, ...]:
    """All that are written down (`make docs` writes them from examples/families)."""
    text = (resources.files("frisket.recipes.init") / "recipe_table.json").read_text("utf-8")
    return tuple(
        Recipe(**{**row, "resolution": tuple(row["resolution"])}) for row in json.loads(text)
    )


def measure_card() -> float | None:
    """GiB of the first CUDA card, None where torch sees none."""
    import torch  # noqa: PLC0415 - with the families

    if not torch.cuda.is_available():
        return None
    return float(torch.cuda.get_device_properties(0).total_memory) / GIB


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model, the recipe its settings are from, and what is said of the choice."""

    family: str
    variant: str
    recipe: Recipe | None
    messages: tuple[str, ...] = ()


def choose(scan: DatasetScan, room: float | None) -> ModelChoice:
    """The largest model that fits `room` GiB without anything waiting on the CPU.

    Pictures get no video model. With no card, or one that nothing fits, it is the smallest there
    is, and that is said. Small pictures get the model that ships with the package.
    """
    largest = FAMILIES.load(FAMILY).suggestions.largest
    if largest is None or max(scan.height, scan.width) <= largest:
        return ModelChoice(FAMILY, "", None)
    video = scan.videos > 0
    candidates = [recipe for recipe in read_recipes() if _matches_kind(recipe, video=video)]
    if room is None:
        least = min(candidates, key=lambda recipe: recipe.peak or 1e9)
        message = (
            "no GPU is seen here: on a CPU a run takes days; this is the smallest model that suits"
            f" your {'clips' if video else 'pictures'}, for the card you will train on see"
            " `frisket families`"
        )
        return ModelChoice(least.family, least.variant, least, (message,))
    fitting = [recipe for recipe in candidates if recipe.fits(room)]
    if not fitting:
        least = min(candidates, key=lambda recipe: recipe.peak or 1e9)
        message = f"no model is known to fit {room:.0f} GiB; this is the smallest, look at `doctor`"
        return ModelChoice(least.family, least.variant, least, (message,))
    ranked = sorted(fitting, key=lambda recipe: (not recipe.easy, -recipe.billions, -recipe.card))
    best: dict[str, Recipe] = {}
    for recipe in ranked:
        best.setdefault(recipe.name, recipe)
    models = list(best.values())
    offers = "; ".join(_offer(recipe) for recipe in models[:OFFERED])
    message = f"your card has {room:.0f} GiB. What fits it, the first is taken: {offers}"
    return ModelChoice(models[0].family, models[0].variant, models[0], (message,))


def find_recipe(family: str, variant: str, room: float | None) -> Recipe | None:
    """The most that a chosen model can do on the card at hand; None where nothing is written."""
    recipes = [
        recipe for recipe in read_recipes() if (recipe.family, recipe.variant) == (family, variant)
    ]
    fitting = [recipe for recipe in recipes if room is not None and recipe.fits(room)]
    if fitting:
        return max(fitting, key=lambda recipe: recipe.card)
    return min(recipes, key=lambda recipe: recipe.card, default=None)


def _matches_kind(recipe: Recipe, *, video: bool) -> bool:
    card = FAMILIES.load(recipe.family).variants[recipe.variant]
    return card.video == video and card.sees == "nothing"


def _offer(recipe: Recipe) -> str:
    return (
        f"{recipe.name} (peak {recipe.peak:.1f} GiB, {recipe.gigabytes:.0f} GB to download, text"
        " encoders apart)"
    )
