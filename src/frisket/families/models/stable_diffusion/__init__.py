"""The Stable Diffusion family: UNets that predict the noise or v."""

from frisket.families.models.stable_diffusion.family import FAMILY

__all__ = ["FAMILY"]
