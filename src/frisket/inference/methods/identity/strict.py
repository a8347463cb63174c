"""Strict confinement: outside its mask an image adapter changes nothing of a prediction.

Masks confine at the attention's output alone; what comes after spreads it (convolutions,
self-attention). Here two predictions are blended, mask * with + (1 - mask) * without, in every
step: twice the work.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.families.control.masking import resample_area
from frisket.inference.methods.identity.image_attention import ImageAttention
from frisket.inference.methods.identity.passes import DenoiserPasses, combine_passes
from frisket.inference.sample_specs import SampleSpec
from frisket.shapes import Cells


def blend_predictions(
    changed: Float[Tensor, "b ..."], base: Float[Tensor, "b ..."], mask: Float[Tensor, "m ..."]
) -> Float[Tensor, "b ..."]:
    """`changed` where the mask is 1, exactly `base` where it is 0, between in between."""
    mask = mask.to(base.device, base.dtype)
    mixed = torch.where(mask == 1, changed, mask * changed + (1 - mask) * base)
    return torch.where(mask == 0, base, mixed)


def lay_on_prediction(
    masks: Float[Tensor, "b f h w"], prediction: Tensor, cells: Cells | None = None
) -> Float[Tensor, "b ..."]:
    """Masks on the axes of a prediction: b c h w, b c f h w, or rows of `cells`, b n c.

    Rows beyond the cells (reference pictures) get 0. ValueError for rows without cells.
    """
    if prediction.ndim == 5:
        return resample_area(masks, prediction.shape[2:])[:, None]  # type: ignore[arg-type]
    if prediction.ndim == 4:
        height, width = prediction.shape[2:]
        return resample_area(masks, (1, height, width))
    if prediction.ndim != 3 or cells is None:
        raise ValueError(f"it is not known where the cells of {tuple(prediction.shape)} are")
    rows = resample_area(masks, cells).flatten(1)
    beyond = prediction.shape[1] - math.prod(cells)
    return nn.functional.pad(rows, (0, beyond))[..., None]


@dataclass(eq=False, slots=True)
class StrictConfinement:
    """Image adapters that act inside `mask` (b f h w or one for all) and nowhere else; a method."""

    denoiser: nn.Module
    attention: ImageAttention
    mask: Float[Tensor, "b f h w"]

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Inside, every prediction is blended; ValueError for masks that are not one a sample."""
        if len(self.mask) not in (1, len(specs)):
            raise ValueError(f"{len(self.mask)} masks for {len(specs)} samples: one each, or one")
        combine = partial(self.blend, count=len(specs))
        with (
            self.attention.attach(pipeline, call, specs),
            combine_passes(self.denoiser, self.attention, combine),
        ):
            yield

    def blend(self, passes: DenoiserPasses, count: int) -> Tensor:
        """One prediction for `count` samples, a multiple of them where guidance is in the batch."""
        mask = lay_on_prediction(self.mask, passes.output, self.attention.cells)
        if len(mask) > 1:
            mask = mask[torch.arange(len(passes.output)) % count]
        return blend_predictions(passes.output, passes.run("off"), mask)
