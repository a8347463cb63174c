"""Did the mask work: numbers on predictions and pictures, each defined once and kept still."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from frisket.shapes import Coverage, Frames, Latents, Plane, Weights

OUTSIDE = "outside"  # what no region covers
PEAK = 255.0
BINS = 8  # a channel of the colour histogram
ANGLES, STRENGTHS = 8, (8.0, 32.0, 96.0)  # of the texture histogram; grey levels a pixel


def region_loss(
    error: Latents, coverage: Coverage, regions: Sequence[str], given: Weights | None = None
) -> dict[str, float]:
    """Mean error inside each region and in `outside`, pooled over the batch.

    `error` is per element and not yet weighted (for example the squared error of a prediction);
    a cell counts for a region by the share the region covers of it. A region that covers nothing
    in the whole batch has no loss and is left out. `given` is 1 in cells that the model was handed
    clean: they count nowhere. ValueError where names and planes differ.
    """
    if len(regions) != coverage.shape[1]:
        raise ValueError(f"{coverage.shape[1]} coverage planes but regions {list(regions)}")
    if OUTSIDE in regions:
        raise ValueError(f"no region may be named {OUTSIDE!r}: it means what no region covers")
    cells = error.float().mean(1, keepdim=True)  # b 1 f h w
    planes = coverage.float()
    outside = (1 - planes.sum(1, keepdim=True)).clamp_min(0)
    planes = torch.cat([planes, outside], dim=1)
    if given is not None:
        planes = planes * (1 - given)
    area = planes.sum((0, 2, 3, 4))
    total = (cells * planes).sum((0, 2, 3, 4))
    names = [*regions, OUTSIDE]
    return {name: float(total[k] / area[k]) for k, name in enumerate(names) if float(area[k]) > 0}


def drift(prediction: Latents, base: Latents) -> float:
    """How far a tuned model moved: mean squared difference of its prediction to the base model's.

    Both predict from the same noisy latents, t and conditioning; 0 means nothing changed.
    """
    return float((prediction.float() - base.float()).square().mean())


def masked_psnr(pictures: Frames, reference: Frames, plane: Plane) -> float:
    """PSNR in dB of pictures against a reference, counted under a plane in [0, 1].

    A mean squared error below 1 (grey levels squared) counts as 1: at most 48.1 dB, never infinite.
    ValueError where the plane is empty.
    """
    area = plane.sum()
    if float(area) <= 0:
        raise ValueError("masked_psnr: the plane is empty, there is nothing to compare under it")
    error = (pictures.float() - reference.float()).square().mean(-1)
    mean = ((error * plane).sum() / area).clamp_min(1)
    return float(10 * torch.log10(PEAK**2 / mean))


def background_similarity(
    generated: UInt8[Tensor, "n H W 3"],
    training: UInt8[Tensor, "m Y X 3"],
    outside_generated: Float[Tensor, "n H W"],
    outside_training: Float[Tensor, "m Y X"],
) -> dict[str, float]:
    """How alike two sets of pictures are outside their subjects, each number in [0, 1].

    `colour`: intersection of RGB histograms (8 bins a channel; Swain & Ballard 1991, eq. 1).
    `texture`: intersection of histograms of the grey gradient (8 directions x 4 strengths), so a
    pattern counts whatever its colours. `leak`: the geometric mean of the two, which is high only
    where colour and texture of the training background both came along. Planes are 1 outside the
    subject; ValueError where one of them is empty.
    """
    colour, texture = (
        torch.minimum(
            _normalised(histogram(generated, outside_generated)),
            _normalised(histogram(training, outside_training)),
        ).sum()
        for histogram in (_colours, _gradients)
    )
    return {
        "colour": min(float(colour), 1.0),
        "texture": min(float(texture), 1.0),
        "leak": min(float((colour * texture).sqrt()), 1.0),
    }


def _normalised(histogram: Tensor) -> Tensor:
    total = histogram.sum()
    if float(total) <= 0:
        raise ValueError("background_similarity: a plane leaves no pixel outside the subjects")
    return histogram / total


def _colours(pictures: Tensor, weights: Tensor) -> Tensor:
    level = pictures.long() * BINS // 256
    cell = (level[..., 0] * BINS + level[..., 1]) * BINS + level[..., 2]
    return torch.bincount(cell.flatten(), weights.double().flatten(), minlength=BINS**3)


def _gradients(pictures: Tensor, weights: Tensor) -> Tensor:
    grey = pictures.double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.double)
    right = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    down = grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    # A gradient and its opposite are the same edge, so directions run over half a turn.
    turn = torch.atan2(down, right).remainder(torch.pi) / torch.pi
    angle = (turn * ANGLES).long().clamp_max(ANGLES - 1)
    strength = torch.bucketize(torch.hypot(right, down) / 2, torch.tensor(STRENGTHS).double())
    cell = torch.where(strength == 0, 0, strength * ANGLES + angle)  # flat has no direction
    inner = weights[:, 1:-1, 1:-1].double()
    bins = (len(STRENGTHS) + 1) * ANGLES
    return torch.bincount(cell.flatten(), inner.flatten(), minlength=bins)
