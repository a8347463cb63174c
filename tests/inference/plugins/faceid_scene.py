"""A tiny UNet with an adapter's weights, as our code and the authors' are both given it."""

from typing import Any

import torch
from tests.adapters.image import pipelines, scene
from tests.inference.plugins.scene import build_file, load_family
from torch import Tensor

from frisket.adapters.image.layouts import ImageAdapterFile

SCALE, LORA_SCALE = 0.7, 0.6
CASES: dict[str, tuple[Any, float, float]] = {
    "base": ("base", SCALE, 1.0),
    "faceid": ("faceid", SCALE, 1.0),
    "faceid weak lora": ("faceid", SCALE, LORA_SCALE),
}
TEXT = 7


def build_model() -> Any:
    return pipelines.build_unet().requires_grad_(False)


def build_case_file(kind: Any, model: Any) -> ImageAdapterFile:
    return build_file(kind, load_family("stable_diffusion"), model)


def draw_call() -> dict[str, Tensor]:
    """Noise, text and tokens of two samples."""
    return {
        "sample": scene.draw("sample", (2, 4, 8, 8)),
        "timestep": torch.tensor([500, 500]),
        "text": scene.draw("text", (2, TEXT, scene.WIDTH)),
        "tokens": scene.draw("tokens", (2, 4, scene.WIDTH)),
    }
