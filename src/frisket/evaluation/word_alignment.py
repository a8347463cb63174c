"""Does a phrase look where its region is: one attention map against one mask, and over many clips.

All three measures have one floor: a map that is the same everywhere scores the share of the clip
that the region covers (`area`). Above it the phrase knows something of where its region is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from frisket.evaluation.bootstrap import Estimate, estimate
from frisket.evaluation.mask_metrics import iou

_Coverage = Float[Tensor, "_ _ _"]  # checked by hand: the error names both

COVERED = 0.5  # share of a cell from which it is inside its region


@dataclass(frozen=True, slots=True)
class WordAlignment:
    """One phrase's map against its region's mask, in one clip; every number in [0, 1].

    `pointing` is 1 where the greatest value lies inside (of several such cells, the share of them
    that does: the pointing game of Zhang et al. 2016, arXiv:1608.00507, without its tolerance).
    `mass` is the share of all attention that lies inside, cells counted as far as they are covered.
    `iou` is the intersection over union of the mask with the map cut at the threshold that is best
    for this clip, so an upper bound of what a mask made from the map could reach; `iou_half` cuts
    half way between the map's least and greatest value. `area` is the share of the clip inside.
    """

    pointing: float
    mass: float
    iou: float
    iou_half: float
    area: float


MEASURES: Mapping[str, str] = {
    "pointing": "Share of clips in which the phrase looks hardest at a cell inside its region.",
    "mass": "Share of the phrase's attention that lies inside its region.",
    "iou": "Overlap of the region with the map cut where it overlaps best, clip by clip.",
    "iou_half": "The same with the map cut half way between its least and greatest value.",
    "area": "Share of the clip that the region covers: what a map that knows nothing scores.",
}


def measure_alignment(
    attention: Float[Tensor, "f h w"], coverage: _Coverage
) -> WordAlignment | None:
    """One map (0 or more) against one region's coverage, all frames of the clip together.

    None where there is no inside or no outside to tell apart: no cell, or every cell, is covered by
    half. ValueError for shapes that differ, and for a map with NaN, infinity or values below 0.
    """
    if attention.shape != coverage.shape:
        raise ValueError(
            f"a map of {tuple(attention.shape)} cells and a coverage of {tuple(coverage.shape)}"
        )
    values, shares = attention.detach().double().flatten(), coverage.double().flatten()
    if not bool(torch.isfinite(values).all()) or bool((values < 0).any()):
        raise ValueError("a map of attention holds NaN, infinity or values below 0")
    inside = shares >= COVERED
    area = float(inside.double().mean())
    if not 0 < area < 1:
        return None
    least, greatest = values.min(), values.max()
    half = values >= (least + greatest) / 2
    total = values.sum()
    return WordAlignment(
        pointing=float(inside[values == greatest].double().mean()),
        # Nothing is looked at: as a map that looks everywhere alike.
        mass=float((values * shares).sum() / total) if total > 0 else float(shares.mean()),
        iou=find_best_iou(values, inside),
        iou_half=iou(half, inside),
        area=area,
    )


def find_best_iou(values: Tensor, inside: Tensor) -> float:
    """The greatest IoU of `inside` with {values >= threshold}, over every threshold there is."""
    ordered, order = values.flatten().sort(descending=True)
    hits = inside.flatten()[order].double().cumsum(0)
    counts = torch.arange(1, len(ordered) + 1, dtype=torch.double, device=values.device)
    overlaps = hits / (counts + hits[-1] - hits)
    ends = torch.ones_like(ordered, dtype=torch.bool)
    ends[:-1] = ordered[:-1] != ordered[1:]  # a threshold takes equal values all, or none
    return float(overlaps[ends].max())


def average_alignments(alignments: Sequence[WordAlignment]) -> WordAlignment:
    """The mean of several of one clip (draws of noise, levels of t); ValueError for none."""
    if not alignments:
        raise ValueError("nothing was measured: there is no alignment to take a mean of")
    return WordAlignment(
        **{
            name: sum(getattr(alignment, name) for alignment in alignments) / len(alignments)
            for name in MEASURES
        }
    )


def estimate_alignments(alignments: Sequence[WordAlignment]) -> dict[str, Estimate]:
    """Mean and interval of every measure over clips, one alignment a clip (`bootstrap.estimate`).

    ValueError where there is none.
    """
    return {
        name: estimate([getattr(alignment, name) for alignment in alignments]) for name in MEASURES
    }
