"""The MaskDiT family: transformers that are trained whole on a part of each picture's patches."""

from frisket.families.models.maskdit.family import FAMILY

__all__ = ["FAMILY"]
