"""The image encoder of image adapters: CLIP with its projection, as transformers saves it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float, UInt8
from torch import Tensor, nn

PUBLISHED = (
    "public image adapters were trained with models/image_encoder of h94/IP-Adapter on Hugging Face"
    " (SDXL's without vit-h in their names: sdxl_models/image_encoder)"
)
CONFIG, WEIGHTS = "config.json", ("model.safetensors", "model.safetensors.index.json")
PROCESSOR = "preprocessor_config.json"
KINDS = ("clip_vision_model", "clip", "clip_vision_model_with_projection")


class ImageEncoderNotUsable(ValueError):
    """A folder that holds no CLIP image encoder; the message names it and what is missing."""


@dataclass(frozen=True, slots=True)
class ImageEncoderSizes:
    """Widths of what an encoder gives: of a picture's embedding and of its states, and their count.

    `patches` counts the class token too.
    """

    pooled: int
    states: int
    patches: int
    side: int  # pixels of the square that it reads


@dataclass(frozen=True, slots=True)
class EncodedPictures:
    """What image adapters read of pictures: the embedding, and the last states but one."""

    pooled: Float[Tensor, "b d"]
    states: Float[Tensor, "b m s"]


def read_encoder_sizes(folder: Path) -> ImageEncoderSizes:
    """The sizes of the encoder in a folder, from its config alone.

    ImageEncoderNotUsable where there is none, or no weights in safetensors.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ImageEncoderNotUsable(
            f"{folder} holds no image encoder: {CONFIG} is missing; {PUBLISHED}"
        )
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise ImageEncoderNotUsable(
            f"{folder} has a {CONFIG} and no {WEIGHTS[0]}: download that too (weights as a .bin are"
            " not read)"
        )
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        kind = tree.get("model_type", "")
        tree = (
            tree["vision_config"] | {"projection_dim": tree["projection_dim"]}
            if (kind == "clip")
            else tree
        )
        side, patch = int(tree["image_size"]), int(tree["patch_size"])
        sizes = ImageEncoderSizes(
            pooled=int(tree["projection_dim"]),
            states=int(tree["hidden_size"]),
            patches=(side // patch) ** 2 + 1,
            side=side,
        )
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ImageEncoderNotUsable(
            f"{path} is not the config of a CLIP image encoder ({type(error).__name__}: {error});"
            f" {PUBLISHED}"
        ) from error
    if kind not in KINDS:
        raise ImageEncoderNotUsable(
            f"{path} is the config of a {kind or 'model without a type'}, not of a CLIP image"
            f" encoder; {PUBLISHED}"
        )
    return sizes


class ClipImageEncoder:
    """CLIP's image encoder, frozen, with the preprocessing in its folder or else OpenAI's."""

    def __init__(self, model: nn.Module, processor: Any, sizes: ImageEncoderSizes) -> None:
        self.model, self.processor, self.sizes = model, processor, sizes

    @torch.no_grad()
    def encode(self, frames: UInt8[Tensor, "b H W 3"]) -> EncodedPictures:
        """Pictures in RGB, resized to the encoder's square (its middle, where they are none)."""
        pixels = self.processor(images=list(frames.numpy()), return_tensors="pt")["pixel_values"]
        return self._run(pixels)

    @torch.no_grad()
    def encode_zero(self) -> EncodedPictures:
        """The zero image: zeros in place of normalised pixels, b = 1."""
        return self._run(torch.zeros(1, 3, self.sizes.side, self.sizes.side))

    def _run(self, pixels: Tensor) -> EncodedPictures:
        weight = next(self.model.parameters())
        answer = self.model(pixel_values=pixels.to(weight), output_hidden_states=True)
        return EncodedPictures(
            answer.image_embeds.float().cpu(), answer.hidden_states[-2].float().cpu()
        )


def load_image_encoder(folder: Path, device: str = "cpu") -> ClipImageEncoder:
    """Read the encoder of a folder, in float32; nothing is downloaded.

    ImageEncoderNotUsable where the folder holds none, or one that is damaged.
    """
    sizes = read_encoder_sizes(folder)
    kind: Any = (
        getattr(transformers, "CLIPImageProcessorPil", None) or transformers.CLIPImageProcessor
    )
    try:
        model = transformers.CLIPVisionModelWithProjection.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, torch_dtype=torch.float32
        )
        if (folder / PROCESSOR).is_file():
            processor = kind.from_pretrained(folder, local_files_only=True)
        else:
            size = {"shortest_edge": sizes.side}
            processor = kind(size=size, crop_size={"height": sizes.side, "width": sizes.side})
    except Exception as error:  # foreign parsers raise what they like
        raise ImageEncoderNotUsable(
            f"{folder}: the image encoder cannot be read ({type(error).__name__}: {error})"
        ) from error
    model.eval().requires_grad_(False)
    return ClipImageEncoder(model.to(device), processor, sizes)
