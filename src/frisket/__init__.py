"""Frisket: region-weighted fine-tuning for diffusion models; teach it this, and only this.

The library for trainers of one's own, of which nothing is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from frisket.grid import LatentGrid
    from frisket.library import masked_loss, read_mask
    from frisket.masks.coverage import coverage
    from frisket.masks.weights import RegionWeights

    __version__: str

__all__ = ["LatentGrid", "RegionWeights", "__version__", "coverage", "masked_loss", "read_mask"]

_MODULES = {
    "LatentGrid": "frisket.grid",
    "RegionWeights": "frisket.masks.weights",
    "coverage": "frisket.masks.coverage",
    "masked_loss": "frisket.library",
    "read_mask": "frisket.library",
}

if not TYPE_CHECKING:  # else every misspelt name would have a type

    def __getattr__(name: str) -> object:
        """Import what is used for the first time."""
        if name == "__version__":
            value = import_module("importlib.metadata").version("frisket")
        elif name in _MODULES:
            value = getattr(import_module(_MODULES[name]), name)
        else:
            raise AttributeError(f"module 'frisket' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
