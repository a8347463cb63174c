"""FLUX.1 Kontext's reference picture: its size, its pixels, and a pipeline that keeps sizes."""

from functools import wraps
from typing import Any

import diffusers
from diffusers.image_processor import VaeImageProcessor
from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from frisket.families.base import References

AREA = 1024 * 1024  # pixels; Kontext was trained on pictures of about this many
STEP = 16  # pixels a token covers


class FluxKontextPipeline(diffusers.FluxKontextPipeline):
    """The public pipeline, except that it makes pictures of the size it is asked for.

    The stock one takes `height` and `width` for an aspect ratio and makes a picture of `max_area`
    (one megapixel by default). The name is the stock one's, so that what is saved says so.
    """

    @wraps(diffusers.FluxKontextPipeline.__call__)
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As the stock pipeline, with `max_area` the area asked for where it is not given."""
        if kwargs.get("height") and kwargs.get("width"):
            kwargs.setdefault("max_area", kwargs["height"] * kwargs["width"])
        return super().__call__(*args, **kwargs)


def fit(references: References) -> Image.Image:
    """The one reference picture, at the size the model is shown it.

    A picture of more than a megapixel is resized to that of Kontext's training resolutions that is
    nearest in aspect ratio, as FluxKontextPipeline does; a smaller one keeps its size, cut down to
    whole tokens as the pipeline does with `_auto_resize=False` (enlarging it would cost tokens and
    show nothing more). ValueError for several pictures, and one narrower than a token.
    """
    if len(references) != 1:
        raise ValueError(
            f"FLUX.1 Kontext sees one reference picture, got {len(references)}: join them side by"
            " side in one picture"
        )
    height, width = references[0].shape[1:3]
    if min(height, width) < STEP:
        raise ValueError(
            f"a reference picture of {width} x {height} pixels is too small for FLUX.1 Kontext:"
            f" each side needs {STEP} at least"
        )
    if height * width > AREA:
        ratio = width / height
        nearest = min(abs(ratio - w / h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS)
        width, height = next(
            (w, h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS if abs(ratio - w / h) == nearest
        )
    picture = Image.fromarray(references[0][0].numpy())
    size = (height // STEP * STEP, width // STEP * STEP)
    resized: Image.Image = _processor().resize(picture, *size)
    return resized


def pixels(picture: Image.Image) -> Float[Tensor, "1 3 H W"]:
    """A fitted picture as the VAE reads it, in [-1, 1]."""
    values: Tensor = _processor().preprocess(picture, picture.height, picture.width)
    return values


def _processor() -> Any:
    return VaeImageProcessor(vae_scale_factor=STEP)
