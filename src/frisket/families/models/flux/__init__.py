"""The FLUX.1 family."""

from frisket.families.models.flux.family import FAMILY

__all__ = ["FAMILY"]
