"""Masks of clips that flicker: frames that lose their subject, or catch something else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.evaluation.mask_metrics import compensated_iou, iou
from frisket.inspection.findings import Finding
from frisket.shapes import Frames

SUSPECTS = 4  # pairs of frames whose pictures are looked at
STEADY = 0.75  # IoU of a pair, its motion taken out, from which it is steady
JUMP = 0.2  # change of area that a pair may have besides
CUT = 0.6  # correlation of two frames below which the clip was cut between them
SAME = 0.9  # IoU of a pair, motion and all, from which nobody need look

Get = Callable[[Sequence[int]], Frames]  # frames of the clip by place, at any size


@dataclass(frozen=True, slots=True)
class Jump:
    """Between frame `at - 1` and `at`: area (share of the frame) before and after, and the IoU."""

    at: int
    before: float
    after: float
    iou: float


def find_jumps(masks: Float[Tensor, "F H W"], get: Get) -> list[Jump]:
    """The unsteady pairs of a clip, in order; motion is taken out of the worst pairs only.

    `get` gives the pictures of the asked frames; they are compared at the masks' size. A pair
    counts where the mask, carried along the motion of the pictures, is not the next one, and its
    area jumps as well; not where the clip itself was cut.
    """
    inside = masks >= 0.5
    overlaps = [iou(now, after) for now, after in pairwise(inside)]
    worst = sorted((overlap, place) for place, overlap in enumerate(overlaps) if overlap < SAME)[
        :SUSPECTS
    ]
    jumps = []
    for _, place in sorted(worst, key=lambda pair: pair[1]):
        before, after = (float(inside[at].float().mean()) for at in (place, place + 1))
        if abs(after - before) <= JUMP * max(before, after):
            continue
        pictures = get((place, place + 1))
        if _cut(pictures):
            continue
        moved_iou = compensated_iou(inside[place : place + 2], pictures)
        if moved_iou < STEADY:
            jumps.append(Jump(place + 1, before, after, moved_iou))
    return jumps


def _cut(pictures: Frames) -> bool:
    flat = pictures.float().flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    scale = flat.norm(dim=1).prod().clamp_min(1e-6)
    return float((flat[0] * flat[1]).sum() / scale) < CUT


def look_at_steadiness(clip: str, masks: Float[Tensor, "F H W"], get: Get) -> Iterator[Finding]:
    """Whether the mask of a clip (all regions, small) jumps where the pictures do not."""
    if len(masks) < 2 or not bool((masks >= 0.5).any()):
        return
    jumps = find_jumps(masks, get)
    if not jumps:
        return
    worst = min(jumps, key=lambda jump: jump.iou)
    more = f" (and at {len(jumps) - 1} more)" if len(jumps) > 1 else ""
    yield Finding(
        "flicker",
        "warning",
        clip,
        f"The mask jumps at frame {worst.at}{more}: it covers {worst.before:.1%} before and"
        f" {worst.after:.1%} after, which no motion of the picture explains.",
        "Mend those frames of the mask, or make it again with a model that tracks (frisket masks).",
    )


def shrink_masks(planes: Float[Tensor, "F H W"], side: int) -> Float[Tensor, "F Y X"]:
    """Masks with a longer side of at most `side`, by area."""
    scale = min(side / max(planes.shape[1:]), 1.0)
    size = (max(round(planes.shape[1] * scale), 1), max(round(planes.shape[2] * scale), 1))
    return torch.nn.functional.interpolate(planes[:, None], size, mode="area")[:, 0]
