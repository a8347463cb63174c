"""The FLUX.2 family: dev and klein."""

from frisket.families.models.flux2.family import FAMILY

__all__ = ["FAMILY"]
