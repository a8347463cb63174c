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
def recipes() -> tuple[Recipe, ...]:
    """All that are written down (`make docs` writes them from examples/families)."""
    text = (resources.files("frisket.recipes.init") / "recipe_table.json").read_text("utf-8")
    return tuple(
        Recipe(**{**each, "resolution": tuple(each["resolution"])}) for each in json.loads(text)
    )


def room_of_card() -> float | None:
    """GiB of the first CUDA card, None where torch sees none."""
    import torch  # noqa: PLC0415 - with the families

    if not torch.cuda.is_available():
        return None
    return float(torch.cuda.get_device_properties(0).total_memory) / GIB


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, the recipe its settings are from, and what is said of the choice."""

    family: str
    variant: str
    recipe: Recipe | None
    said: tuple[str, ...] = ()


def choose(seen: DatasetScan, room: float | None) -> Choice:
    """The largest model that fits `room` GiB without anything waiting on the CPU.

    Pictures get no video model. With no card, or one that nothing fits, it is the smallest there
    is, and that is said. Small pictures get the model that ships with the package.
    """
    largest = FAMILIES.load(FAMILY).suggestions.largest
    if largest is None or max(seen.height, seen.width) <= largest:
        return Choice(FAMILY, "", None)
    video = seen.videos > 0
    able = [each for each in recipes() if _makes(each, video=video)]
    if room is None:
        least = min(able, key=lambda each: each.peak or 1e9)
        said = (
            "no GPU is seen here: on a CPU a run takes days; this is the smallest model that suits"
            f" your {'clips' if video else 'pictures'}, for the card you will train on see"
            " `frisket families`"
        )
        return Choice(least.family, least.variant, least, (said,))
    fitting = [each for each in able if each.fits(room)]
    if not fitting:
        least = min(able, key=lambda each: each.peak or 1e9)
        said = f"no model is known to fit {room:.0f} GiB; this is the smallest, look at `doctor`"
        return Choice(least.family, least.variant, least, (said,))
    ranked = sorted(fitting, key=lambda each: (not each.easy, -each.billions, -each.card))
    best: dict[str, Recipe] = {}
    for each in ranked:
        best.setdefault(each.name, each)
    models = list(best.values())
    offers = "; ".join(_offer(each) for each in models[:OFFERED])
    said = f"your card has {room:.0f} GiB. What fits it, the first is taken: {offers}"
    return Choice(models[0].family, models[0].variant, models[0], (said,))


def recipe_for(family: str, variant: str, room: float | None) -> Recipe | None:
    """The most that a chosen model can do on the card at hand; None where nothing is written."""
    own = [each for each in recipes() if (each.family, each.variant) == (family, variant)]
    fitting = [each for each in own if room is not None and each.fits(room)]
    if fitting:
        return max(fitting, key=lambda each: each.card)
    return min(own, key=lambda each: each.card, default=None)


def _makes(recipe: Recipe, *, video: bool) -> bool:
    card = FAMILIES.load(recipe.family).variants[recipe.variant]
    return card.video == video and card.sees == "nothing"


def _offer(recipe: Recipe) -> str:
    return (
        f"{recipe.name} (peak {recipe.peak:.1f} GiB, {recipe.gigabytes:.0f} GB to download, text"
        " encoders apart)"
    )
