"""Local vision models that pictures are compared by: patch features."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from frisket.evaluation.patches import Patches, weigh_patches
from frisket.maskgen.base import ModelSource as Weights
from frisket.maskgen.vision import preprocess
from frisket.maskgen.vision.loading import config_of, folder_of, load_model
from frisket.shapes import Plane

_Frame = UInt8[Tensor, "H W 3"]

# What a config.json says to the class that reads its vision tower.
TOWERS: Mapping[str, str] = {
    "clip": "CLIPVisionModel",
    "clip_vision_model": "CLIPVisionModel",
    "siglip": "SiglipVisionModel",
    "siglip_vision_model": "SiglipVisionModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "dinov3_vit": "DINOv3ViTModel",
}
SIDE = 224  # pixels, of models that read any size


@dataclass(frozen=True, slots=True)
class FeatureExtractor:
    """A vision transformer; its last tokens are its patches in reading order, whatever is before.

    Pictures are resized to a square: training and generated ones alike.
    """

    model: Any
    how: preprocess.Preprocessing
    patch: int

    @torch.no_grad()
    def patches(self, frame: _Frame, plane: Plane) -> Patches:
        """Patch features of a frame, weighted by a plane of it (1 H W)."""
        pixels = preprocess.pixels(frame, self.how).to(self.model.device, self.model.dtype)
        rows, columns = self.how.height // self.patch, self.how.width // self.patch
        tokens = self.model(pixel_values=pixels).last_hidden_state[0, -rows * columns :]
        return weigh_patches(tokens.float().cpu(), plane, rows, columns)


def open_feature_extractor(folder: Path, device: str) -> FeatureExtractor:
    """Load a CLIP, SigLIP or DINO folder, as transformers saves it; nothing is downloaded.

    Raises WeightsNotFound, which names what is missing, or the kinds of model that are read.
    """
    import transformers  # noqa: PLC0415 - slow, and only with --features

    source = Weights(path=str(folder.absolute()), device=device)
    local = folder_of(source, "")
    config = config_of(local, *TOWERS)
    vision: Mapping[str, Any] = config.get("vision_config", config)
    patch, side = int(vision["patch_size"]), int(vision["image_size"])
    if config["model_type"].startswith("dino"):  # its positions are interpolated to any size
        side = min(side, SIDE // patch * patch)
    how = preprocess.read(local, preprocess.Preprocessing(side, side))
    model = load_model(getattr(transformers, TOWERS[config["model_type"]]), local, source)
    return FeatureExtractor(model, replace(how, height=side, width=side), patch)
