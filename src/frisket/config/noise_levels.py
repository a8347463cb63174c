"""What [timesteps] comes to for one variant."""

from frisket.config.tree import Config
from frisket.families.base import Variant
from frisket.objectives.shift import LAWS, SizeShift


def shift_of(config: Config, variant: Variant) -> float | SizeShift:
    """How far [timesteps] pushes towards noise: a number, or a law of the size."""
    shift = config.timesteps.shift
    if isinstance(shift, str):
        return variant.auto_shift if shift == "auto" else LAWS[shift]
    return shift
