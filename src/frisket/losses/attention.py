"""The attention of phrases held to their regions: five published penalties, as pure functions.

Everywhere `maps` are b T n f h w, how much each cell attends to a phrase in [0, 1] with n heads (1:
their mean); `inside` is b T f h w, the share of each cell that the phrase's region covers, in
[0, 1]; `valid` is b 1 f h w, 1 where a cell counts at all. Each gives b T, float32, finite.
"""

import torch
from torch import Tensor
from torch.nn import functional

from frisket.shapes import (
    Coverage,
    HeadMaps,
    LayerCoverage,
    PerPhrase,
    PhraseFlags,
    PhraseMaps,
    Weights,
)

TINY = 1e-12  # divisors below it belong to maps of nothing: their numerator is 0 as well
EPSILON = 1e-5  # FastComposer's: a region or its surroundings of no cells


def shrink_coverage(planes: Coverage, cells: tuple[int, int, int]) -> LayerCoverage:
    """Coverage on the coarser grid of an attention layer: the area mean, soft edges kept.

    The originals read the nearest pixel (Break-A-Scene), or interpolate and keep all that is above
    0 (TokenCompose): both make thin regions thicker or lose them. A still that a model takes as
    several frames covers the same in each. ValueError for a finer grid.
    """
    grid = tuple(planes.shape[2:])
    if grid == tuple(cells):
        return planes.float()
    frames, height, width = cells
    if (grid[0] < frames and grid[0] > 1) or grid[1] < height or grid[2] < width:
        raise ValueError(f"a layer of {cells} cells is finer than the coverage of {grid}")
    pooled: Tensor = functional.adaptive_avg_pool3d(planes.float(), cells)
    return pooled


def compute_ratio_loss(maps: HeadMaps, inside: PhraseMaps, valid: Weights) -> PerPhrase:
    """(1 - mean_n(sum A M / sum A))^2: the share of a phrase's attention that misses its region.

    TokenCompose (Wang et al. 2024, arXiv 2312.03626), token loss (eq. 4). Knows no scale of the
    attention. Theirs averages the loss over the tokens of a word; here A is their sum.
    """
    attention, mask, counts = _flatten(maps, inside, valid)
    attention = attention * counts
    hit = (attention * mask).sum(-1) / attention.sum(-1).clamp_min(TINY)
    return (1 - hit.mean(2)).square()


def compute_mse_loss(maps: HeadMaps, inside: PhraseMaps, valid: Weights) -> PerPhrase:
    """mean((A / max A - M)^2), A the mean over heads: the map as a mask.

    Break-A-Scene (Avrahami et al. 2023, arXiv 2305.16311), eq. 2.
    """
    attention, mask, counts = _flatten(maps.mean(2, keepdim=True), inside, valid)
    attention = attention * counts
    scaled = attention / attention.amax(-1, keepdim=True).clamp_min(TINY)
    return _average((scaled - mask).square(), counts).squeeze(2)


def compute_balanced_loss(maps: HeadMaps, inside: PhraseMaps, valid: Weights) -> PerPhrase:
    """mean_outside(A) - mean_inside(A), mean over heads; below 0 where attention is well placed.

    FastComposer (Xiao et al. 2023, arXiv 2305.10431), eq. 6, without its option to divide by max A.
    """
    attention, mask, counts = _flatten(maps, inside, valid)

    def mean_under(share: Tensor) -> Tensor:
        return (attention * share).sum(-1) / (share.sum(-1) + EPSILON)

    return (mean_under((1 - mask) * counts) - mean_under(mask * counts)).mean(2)


def compute_pixel_loss(maps: HeadMaps, inside: PhraseMaps, valid: Weights) -> PerPhrase:
    """Mean binary cross-entropy of A (mean over heads) and M, cell by cell.

    TokenCompose, pixel loss (eq. 5).
    """
    attention, mask, counts = _flatten(maps.mean(2, keepdim=True), inside, valid)
    error = functional.binary_cross_entropy(
        attention.clamp(0, 1), mask.expand_as(attention), reduction="none"
    )
    return _average(error, counts).squeeze(2)


def compute_overlap_loss(maps: HeadMaps, has_phrase: PhraseFlags, valid: Weights) -> PerPhrase:
    """mean_j <A_i, A_j> / (|A_i| |A_j|) over the other phrases of the caption, in [0, 1].

    Phrases that attend to the same cells are told apart; needs no mask. The inner products of MIFO
    (arXiv 2511.00542) as cosines, so that a strong map weighs no more. 0 for a phrase alone.
    """
    attention, _, counts = _flatten(maps.mean(2, keepdim=True), None, valid)
    flat = (attention * counts).squeeze(2)
    unit = flat / flat.norm(dim=-1, keepdim=True).clamp_min(TINY)
    cosines = unit @ unit.transpose(1, 2)
    pairs = has_phrase[:, :, None] & has_phrase[:, None, :]
    pairs = pairs & ~torch.eye(has_phrase.shape[1], dtype=torch.bool, device=has_phrase.device)
    pair_counts = pairs.sum(2).clamp_min(1)
    return torch.where(pairs, cosines, 0.0).sum(2) / pair_counts


def _flatten(maps: Tensor, inside: Tensor | None, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maps b T n c, mask b T 1 c and counts b 1 1 c in float32; ValueError for other grids."""
    grid = tuple(maps.shape[3:])
    for name, tensor in (("inside", inside), ("valid", valid)):
        if tensor is not None and tuple(tensor.shape[2:]) != grid:
            raise ValueError(
                f"{name} has a grid of {tuple(tensor.shape[2:])}, the attention one of {grid}"
            )
    counts = valid.float().flatten(2).unsqueeze(2)
    mask = counts if inside is None else inside.float().flatten(2).unsqueeze(2)
    return maps.float().flatten(3), mask, counts


def _average(error: Tensor, counts: Tensor) -> Tensor:
    return (error * counts).sum(-1) / counts.sum(-1).clamp_min(TINY)
