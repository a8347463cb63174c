"""The pocket family: small UNets that ship with the package."""

from frisket.families.models.pocket.family import FAMILY

__all__ = ["FAMILY"]
