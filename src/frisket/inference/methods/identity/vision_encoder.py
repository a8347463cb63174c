"""The encoder that an image adapter reads pictures with: CLIP's or SigLIP's, from a folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from frisket.inference.methods.plugin import MethodUnusable

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
PUBLISHED = (
    "image encoders are published at h94/IP-Adapter (models/image_encoder: ViT-H, for SD 1.5 and"
    " files called vit-h or plus; sdxl_models/image_encoder: ViT-bigG, for ip-adapter_sdxl),"
    " openai/clip-vit-large-patch14 (XLabs' for FLUX) and google/siglip-so400m-patch14-384"
    " (InstantX's for SD3) on Hugging Face"
)
# By `model_type` of a folder's config, also where it holds the text's side as well.
MODELS = {
    "clip_vision_model": "CLIPVisionModelWithProjection",
    "clip": "CLIPVisionModelWithProjection",
    "siglip_vision_model": "SiglipVisionModel",
    "siglip": "SiglipVisionModel",
}
PictureFrame = UInt8[Tensor, "H W 3"]


@dataclass(frozen=True, slots=True)
class VisionEncoder:
    """A loaded encoder, on the CPU in float32, and what lays pictures before it."""

    folder: Path
    model: nn.Module
    processor: Any

    @property
    def states_width(self) -> int:
        """Channels of a hidden state."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr,arg-type]

    @property
    def pooled_width(self) -> int:
        """Numbers of the pooled embedding; MethodUnusable for SigLIP, which projects none."""
        width = getattr(self.model.config, "projection_dim", None)
        if width is None:
            raise MethodUnusable(
                f"{self.folder} is a {self.model.config.model_type}; this file reads the pooled"  # type: ignore[union-attr]
                f" embedding of a CLIP: {PUBLISHED}"
            )
        return int(width)

    @torch.no_grad()
    def read_pooled(self, pictures: Sequence[PictureFrame]) -> Float[Tensor, "n s"]:
        """The projected embedding of each picture."""
        embeddings: Tensor = self.model(self._lay_pixels(pictures)).image_embeds
        return embeddings

    @torch.no_grad()
    def read_states(self, pictures: Sequence[PictureFrame]) -> Float[Tensor, "n m c"]:
        """The last hidden state but one of each picture, the class token's row included."""
        return self._read_states(self._lay_pixels(pictures))

    @torch.no_grad()
    def read_zero_image(self) -> Float[Tensor, "1 m c"]:
        """The same of zeros in place of a picture's normalised pixels."""
        pixels = self._lay_pixels([torch.zeros(8, 8, 3, dtype=torch.uint8)])
        return self._read_states(torch.zeros_like(pixels))

    def _read_states(self, pixels: Tensor) -> Tensor:
        states: Tensor = self.model(pixels, output_hidden_states=True).hidden_states[-2]
        return states

    def _lay_pixels(self, pictures: Sequence[PictureFrame]) -> Tensor:
        arrays = [picture.cpu().numpy() for picture in pictures]
        # The channel axis is said: a picture three pixels high would be taken for planes.
        batch = self.processor(arrays, return_tensors="pt", input_data_format="channels_last")
        pixels: Tensor = batch.pixel_values
        return pixels


def load_vision_encoder(folder: Path | None, file: Path) -> VisionEncoder:
    """The encoder in a folder of transformers', local files alone; `file` names who asks for it.

    Pictures are laid before it as its preprocessor_config.json says, or, without one, as CLIP's and
    SigLIP's own do at the model's size (h94's folders have none). MethodUnusable without a folder
    and for an encoder of another kind, FileNotFoundError for one that is not there.
    """
    if folder is None:
        raise MethodUnusable(f"{file} reads pictures through an image encoder: give its folder"
                             f" (encoder); {PUBLISHED}")  # fmt: skip
    kind, config = _read_kind(folder)
    model_class: Any = getattr(transformers, MODELS[kind])
    try:
        model = model_class.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise MethodUnusable(
            f"{folder}: the image encoder cannot be loaded: {' '.join(str(error).split())}"
        ) from error
    model = model.eval().requires_grad_(False)
    return VisionEncoder(folder, model, _load_processor(folder, kind, config))


def _read_kind(folder: Path) -> tuple[str, dict[str, Any]]:
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no image encoder: it has no {CONFIG}; {PUBLISHED}")
    try:
        config = json.loads(path.read_text(encoding="utf8"))
        kind = config["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise MethodUnusable(f"{path} is no configuration of an image encoder") from error
    if kind not in MODELS:
        raise MethodUnusable(f"{path} is that of a {kind!r}, not of CLIP or SigLIP; {PUBLISHED}")
    return kind, config.get("vision_config", config)


def _load_processor(folder: Path, kind: str, config: dict[str, Any]) -> Any:
    name = "SiglipImageProcessor" if kind.startswith("siglip") else "CLIPImageProcessor"
    # Over PIL: the other one of transformers 5 wants torchvision.
    processor: Any = getattr(transformers, f"{name}Pil", None) or getattr(transformers, name)
    if (folder / PROCESSOR).is_file():
        return processor.from_pretrained(folder, local_files_only=True)
    side = int(config.get("image_size", 224))
    if kind.startswith("siglip"):
        return processor(size={"height": side, "width": side})
    return processor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
