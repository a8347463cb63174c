"""The sizes of an image encoder (CLIP's or SigLIP's), read without its weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PUBLISHED = (
    "public image adapters were trained with models/image_encoder of h94/IP-Adapter on Hugging Face"
)
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
CLIP, SIGLIP = ("clip_vision_model", "clip"), ("siglip_vision_model", "siglip")


class ImageEncoderNotUsable(ValueError):
    """A folder that holds no image encoder; the message names it and what is missing."""


@dataclass(frozen=True, slots=True)
class ImageEncoderSizes:
    """Widths of what an encoder gives of a picture, and how many states that is.

    `pooled` is the width of the projected embedding, None for SigLIP, which projects none;
    `patches` counts the class token too, where there is one.
    """

    pooled: int | None
    states: int
    patches: int


def read_encoder_sizes(folder: Path) -> ImageEncoderSizes:
    """The sizes of the encoder in a folder of transformers', from its config alone.

    ImageEncoderNotUsable where there is none, or no weights in safetensors.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ImageEncoderNotUsable(f"{folder} holds no image encoder: no {CONFIG}; {PUBLISHED}")
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise ImageEncoderNotUsable(
            f"{folder} has a {CONFIG} and no {WEIGHTS[0]}: download that too (weights as a .bin are"
            " not read)"
        )
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        kind = tree["model_type"]
        sizes = _read_sizes(tree, kind)
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ImageEncoderNotUsable(
            f"{path} is no config of an image encoder ({reason}); {PUBLISHED}"
        ) from error
    if kind not in (*CLIP, *SIGLIP):
        raise ImageEncoderNotUsable(
            f"{path} is the config of a {str(kind)[:40]!r}, not of CLIP or SigLIP; {PUBLISHED}"
        )
    return sizes


def _read_sizes(tree: dict[str, Any], kind: str) -> ImageEncoderSizes:
    """A folder of both sides has its own table for pictures."""
    vision = tree.get("vision_config", tree)
    patches = (int(vision["image_size"]) // int(vision["patch_size"])) ** 2
    states = int(vision["hidden_size"])
    if kind in SIGLIP:
        return ImageEncoderSizes(None, states, patches)
    pooled = tree["projection_dim"] if "projection_dim" in tree else vision["projection_dim"]
    return ImageEncoderSizes(int(pooled), states, patches + 1)
