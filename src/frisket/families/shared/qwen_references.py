"""The pictures an edit model of Qwen-Image looks at: sized as its pipelines size them, encoded."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus as stock
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn

from frisket.disk.untrusted import read_table
from frisket.families.base import Source

ReferencePictures = Sequence[
    UInt8[Tensor, "1 _ _ 3"]
]  # each at its own size, which is not the clip's
AREA = "_reference_area"  # key of a VAE's config; see `area_of`
NAME = "reference_{}"  # of the latents in the conditioning
RESIZE = VaeImageProcessor(vae_scale_factor=16)


def pictures_of(references: ReferencePictures) -> list[Image.Image]:
    """Reference pictures as the pipelines take them."""
    return [Image.fromarray(frames[0].cpu().numpy()) for frames in references]


def check_references(prompts: int, references: int) -> None:
    """ValueError unless so many prompts of an edit model come with as many lists of pictures."""
    if references != prompts:
        raise ValueError(_describe_lacking(f"{prompts} prompts, pictures for {references}"))


def check_count(count: int, *, several: bool, prompt: str) -> None:
    """ValueError unless an edit model looks at so many pictures; `prompt` is for the message."""
    of = f" of {prompt[:60]!r}" if prompt else ""
    if count == 0:
        raise ValueError(_describe_lacking(f"the prompt{of} comes with none"))
    if count > 1 and not several:
        raise ValueError(
            f"Qwen-Image-Edit looks at one picture, the prompt{of} comes with {count}. Use variant"
            " edit-2509 or edit-2511 for several."
        )


def _describe_lacking(problem: str) -> str:
    return (
        f"a Qwen-Image edit model needs at least one reference picture a prompt: {problem}. Name"
        " their folder as references in [[data]], or use a text-to-image variant."
    )


def resize_for_text(picture: Image.Image, *, several: bool) -> Image.Image:
    """A picture as the text encoder is shown it: about 384^2 pixels where the model takes several.

    Qwen-Image-Edit, which takes one, shows it as large as to the VAE.
    """
    width, height = _sides(picture, stock.CONDITION_IMAGE_SIZE if several else stock.VAE_IMAGE_SIZE)
    resized: Image.Image = RESIZE.resize(picture, height, width)
    return resized


def pixels(picture: Image.Image, area: int) -> Tensor:
    """A picture as the VAE is shown it: 1 3 1 H W in [-1, 1], of about `area` pixels.

    Sides are multiples of 32 in the picture's proportion, whatever the size of the target.
    """
    width, height = _sides(picture, area)
    clip: Tensor = RESIZE.preprocess(picture, height, width)
    return clip.unsqueeze(2)


def _sides(picture: Image.Image, area: int) -> tuple[int, int]:
    width, height = stock.calculate_dimensions(area, picture.width / picture.height)
    return width, height


def area_of(vae: nn.Module) -> int:
    """Pixels of a reference before this VAE: 1024^2, as the pipelines have it.

    A VAE whose config has `_reference_area` says otherwise: the tiny ones do, for which a megapixel
    of references would be a thousand times the target.
    """
    config: Any = vae.config
    return int(config.get(AREA, stock.VAE_IMAGE_SIZE))


def look_as(vae: nn.Module, source: Source) -> None:
    """Have a tiny VAE shown references of as many pixels as the VAE of `source` is shown.

    That is what its folder says, where it is one on this machine, and else the pipelines' million.
    """
    known: Any = vae
    file = source.local / "vae" / "config.json" if source.local is not None else None
    written = read_table(file) if file and file.is_file() else {}
    known.register_to_config(**{AREA: int(written.get(AREA, stock.VAE_IMAGE_SIZE))})


def list_names(count: int) -> list[str]:
    """Conditioning names of so many references, in order."""
    return [NAME.format(index) for index in range(count)]


def latents_in(conditioning: Any) -> list[Tensor]:
    """The references' latents of a conditioning, in order; empty where there are none."""
    latents: list[Tensor] = []
    while (name := NAME.format(len(latents))) in conditioning:
        latents.append(conditioning[name])
    return latents


def tokens(latents: Tensor) -> Tensor:
    """Latents b c 1 h w to b (h/2 w/2) 4c: 2 x 2 cells a token, as the pipelines pack them."""
    b, c, _, h, w = latents.shape
    cells = latents.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cells.reshape(b, (h // 2) * (w // 2), 4 * c)


def latents_from(packed: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `tokens` for `height` x `width` cells."""
    b, _, channels = packed.shape
    cells = packed.reshape(b, height // 2, width // 2, channels // 4, 2, 2)
    return cells.permute(0, 3, 1, 4, 2, 5).reshape(b, channels // 4, 1, height, width)


def shape_of(latents: Tensor) -> tuple[int, int, int]:
    """Tokens of latents b c 1 h w as (frames, rows, columns), for the position embedding."""
    return 1, latents.shape[3] // 2, latents.shape[4] // 2


def device_of(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Where and in which precision a model's weights are."""
    weight = next(module.parameters())
    return weight.device, weight.dtype
