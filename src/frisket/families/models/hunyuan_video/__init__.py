"""The HunyuanVideo family: Tencent's video transformers, the first one and 1.5."""

from frisket.families.models.hunyuan_video.family import FAMILY

__all__ = ["FAMILY"]
