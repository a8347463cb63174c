"""Noise levels of other trainers: a shift by size is `auto` where the law is the model's own."""

from collections.abc import Mapping
from typing import Any

from frisket.families.base import FAMILIES
from frisket.objectives.shift import FLUX, SizeShift

DIFFUSION = "stable_diffusion"  # its models have no shift
SAID = "there the shift follows the size; "
AUTO = f'{SAID}so does timesteps.shift = "auto", by the same law'
OTHER = (
    f"{SAID}not so of this model's own sampler, or by another law: timesteps.shift takes a number,"
    ' and "auto" stands in, what the model samples with'
)
# Of musubi-tuner's --timestep_sampling; sd-scripts has the first.
LAWS: Mapping[str, SizeShift] = {
    "flux_shift": FLUX,
    "flux2_shift": SizeShift(patch=1),
    "qwen_shift": SizeShift(high=0.9, many=8192),
}


def is_flow(model: Mapping[str, Any]) -> bool:
    """Whether a `[model]` predicts a flow; one that is not known here does not count."""
    return bool(model.get("family", DIFFUSION) != DIFFUSION)


def law_of(model: Mapping[str, Any]) -> SizeShift | None:
    """The law that a `[model]` of ours samples with; None where its shift is a number."""
    if "family" not in model:
        return None
    family = FAMILIES.load(model["family"])
    return family.variants[model.get("variant") or family.default].size_shift


def by_size(model: Mapping[str, Any], law: SizeShift) -> tuple[bool, str]:
    """Whether `law` is that of the model, and the sentence that says what becomes of it."""
    same = law_of(model) == law
    return same, AUTO if same else OTHER
