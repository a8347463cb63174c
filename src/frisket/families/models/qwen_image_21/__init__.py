"""The Qwen-Image 2.1 family."""

from frisket.families.models.qwen_image_21.family import FAMILY

__all__ = ["FAMILY"]
