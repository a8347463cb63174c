"""Where an image adapter acts: soft masks on the grid that a layer has in a call."""

from jaxtyping import Float
from torch import Tensor

from frisket.families.control.masking import resample_area
from frisket.shapes import Cells


def lay_on_rows(
    masks: Float[Tensor, "b f h w"], cells: Cells, samples: Tensor, frames: int = 1
) -> Float[Tensor, "r n 1"]:
    """A factor for each row of a layer's query: `samples` says which mask each sample's row takes.

    `frames` > 1 where the frames of a sample are rows of their own, side by side; `cells` is then
    (1, height, width) and each row takes its frame's plane.
    """
    resampled = resample_area(masks, (frames * cells[0], *cells[1:]))[samples.to(masks.device)]
    return resampled.reshape(len(samples) * frames, -1, 1)
