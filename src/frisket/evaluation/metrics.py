"""Did the mask work: numbers on predictions and pictures, each defined once and kept still."""

from collections.abc import Sequence

import torch

from frisket.evaluation.measured import OUTSIDE
from frisket.shapes import Coverage, Latents, Weights


def region_loss(
    error: Latents, coverage: Coverage, regions: Sequence[str], clean_mask: Weights | None = None
) -> dict[str, float]:
    """Mean error inside each region and in `outside`, pooled over the batch.

    `error` is per element and not yet weighted (for example the squared error of a prediction);
    a cell counts for a region by the share the region covers of it. A region that covers nothing
    in the whole batch has no loss and is left out. `clean_mask` is 1 in cells that the model was
    handed clean: they count nowhere. ValueError where names and planes differ.
    """
    if len(regions) != coverage.shape[1]:
        raise ValueError(f"{coverage.shape[1]} coverage planes but regions {list(regions)}")
    if OUTSIDE in regions:
        raise ValueError(f"no region may be named {OUTSIDE!r}: it means what no region covers")
    cells = error.float().mean(1, keepdim=True)  # b 1 f h w
    planes = coverage.float()
    outside = (1 - planes.sum(1, keepdim=True)).clamp_min(0)
    planes = torch.cat([planes, outside], dim=1)
    if clean_mask is not None:
        planes = planes * (1 - clean_mask)
    area = planes.sum((0, 2, 3, 4))
    total = (cells * planes).sum((0, 2, 3, 4))
    names = [*regions, OUTSIDE]
    return {name: float(total[k] / area[k]) for k, name in enumerate(names) if float(area[k]) > 0}


def drift(prediction: Latents, base: Latents) -> float:
    """How far a tuned model moved: mean squared difference of its prediction to the base model's.

    Both predict from the same noisy latents, t and conditioning; 0 means nothing changed.
    """
    return float((prediction.float() - base.float()).square().mean())
