"""Pictures to what a vision model reads, without torchvision; numbers from the checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from frisket.disk.untrusted import read_table
from frisket.maskgen.base import Box, MaskWeightsNotFound, RgbPicture

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Size in pixels, and the mean and deviation of each channel in [0, 1]."""

    height: int
    width: int
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]


def read(folder: Path, default: Preprocessing) -> Preprocessing:
    """The preprocessing a checkpoint was saved with; keys it lacks are those of `default`.

    Raises MaskWeightsNotFound where none of the files transformers writes is there.
    """
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise MaskWeightsNotFound(
            f"{folder}: there is no {FILES[0]}; copy it from the model's page beside its weights"
        )
    config: Mapping[str, Any] = read_table(file)
    config = config.get("image_processor", config)
    size = config.get("size") or {}
    if isinstance(size, int):  # written by the first versions of transformers
        size = {"height": size, "width": size}
    return Preprocessing(
        height=int(size.get("height", default.height)),
        width=int(size.get("width", default.width)),
        mean=tuple(config.get("image_mean") or default.mean),
        std=tuple(config.get("image_std") or default.std),
    )


def pixels(picture: RgbPicture, how: Preprocessing) -> Float[Tensor, "1 3 h w"]:
    """Resize one picture to the model's size (its aspect is not kept) and normalise, float32.

    Resizing stays in uint8, antialiased, as torchvision's does; the difference to the stock
    processors of SAM 2, SAM 3 and Sapiens2 is below 1e-5 (tests/maskgen/vision/test_preprocess.py).
    """
    chw = picture.permute(2, 0, 1)[None]
    resized = F.interpolate(
        chw, (how.height, how.width), mode="bilinear", antialias=True, align_corners=False
    )
    mean = torch.tensor(how.mean).view(1, -1, 1, 1)
    std = torch.tensor(how.std).view(1, -1, 1, 1)
    return (resized.float() / 255 - mean) / std


def scale_box(box: Box, picture: RgbPicture, how: Preprocessing) -> list[float]:
    """A box in the model's pixels: left, top, right, bottom."""
    high, wide, _ = picture.shape
    x, y = how.width / wide, how.height / high
    return [box.left * x, box.top * y, box.right * x, box.bottom * y]


def enlarge(logits: Float[Tensor, "n h w"], height: int, width: int) -> Float[Tensor, "n H W"]:
    """Low-resolution logits at the picture's size, bilinear, float32."""
    return F.interpolate(
        logits[:, None].float(), (height, width), mode="bilinear", align_corners=False
    )[:, 0]


def split_batches(pictures: Sequence[Any], size: int) -> list[range]:
    """Index ranges of at most `size`."""
    return [range(at, min(at + size, len(pictures))) for at in range(0, len(pictures), size)]
