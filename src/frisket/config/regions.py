"""The region table of a configuration as the masks room takes it."""

from frisket.config.compat import compat_of
from frisket.config.tree import Config
from frisket.masks.weights import BACKGROUND, RegionWeights


def names_of(config: Config) -> tuple[str, ...]:
    """The regions, in the order of the table, `background` left out."""
    return tuple(name for name in config.regions if name != BACKGROUND)


def weights_of(config: Config) -> RegionWeights:
    """The region table and value curve."""
    compat = compat_of(config)
    return RegionWeights(
        regions={name: config.region_weights[name] for name in names_of(config)},
        background=config.region_weights.get(BACKGROUND, 0.0),
        gamma=config.curve.gamma,
        floor=config.curve.floor,
        lift=(compat.floor if compat else None) or "clamp",
        threshold=config.curve.threshold,
    )
