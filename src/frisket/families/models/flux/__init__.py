"""The FLUX.1 family: guidance-distilled transformers for pictures."""

from frisket.families.models.flux.family import FAMILY

__all__ = ["FAMILY"]
