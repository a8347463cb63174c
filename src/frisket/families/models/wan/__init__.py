"""The Wan family: video diffusion transformers."""

from frisket.families.models.wan.family import FAMILY

__all__ = ["FAMILY"]
