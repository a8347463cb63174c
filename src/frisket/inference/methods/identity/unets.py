"""Which denoisers are UNets: methods with residuals on skip connections need one."""

from functools import cache
from typing import Any

from diffusers import UNet2DConditionModel
from torch import nn

from frisket.adapters.targets import unwrap_model
from frisket.families.base import Family


def find_unet(denoiser: nn.Module | None) -> UNet2DConditionModel | None:
    """The UNet with cross-attention inside the wrappers; None where the denoiser is another."""
    model = None if denoiser is None else unwrap_model(denoiser)
    return model if isinstance(model, UNet2DConditionModel) else None


def has_unet(family: Family, variant: str) -> bool:
    """Whether a variant's denoiser is one, told by its tiny parts: nothing is read."""
    hashable_family: Any = family
    return _has_unet(hashable_family, family.variants[variant].like or variant)


@cache
def _has_unet(family: Any, variant: str) -> bool:
    return find_unet(family.tiny(variant).denoiser) is not None
