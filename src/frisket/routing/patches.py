"""Patch masking: the tokens that a denoiser leaves out from its first block on, and what it saves.

After Zheng et al. 2023 (MaskDiT, arXiv 2306.09305), written from the equations.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator

from frisket.routing.selection import (
    Patch,
    TokenSelection,
    count_tokens,
    mark_tokens,
    spread_tokens,
)
from frisket.shapes import Weights

RatioSchedule = Literal["constant", "cosine"]
ROUNDING = 1e-9  # of 1 - ratio, before a number of tokens is cut to a whole one


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchSelection:
    """A random part of each sample's tokens, those with weight before those without.

    zero_weight_first: tokens without weight are removed before any other is; else all are as likely
        as each other (the paper).
    """

    zero_weight_first: bool = True

    def __call__(
        self, weights: Weights, patch: Patch, ratio: float, generator: Generator
    ) -> TokenSelection | None:
        """Draw the tokens of a batch that stay, int(n (1 - ratio)) of n; None where that is all.

        `weights` are what the loss weighs cells by (b 1 f h w, >= 0). One draw of b times n from
        `generator` (on the CPU), whatever comes of it. `importance` is 1 / P(kept): the same in
        all, or apart for tokens with weight and without. ValueError where no token would stay, and
        where the cells do not make whole tokens.
        """
        cells = tuple(weights.shape[2:])
        grid = count_tokens(cells, patch)
        total = math.prod(grid)
        count = int(total * (1 - ratio) + ROUNDING)
        if count < 1:
            raise ValueError(
                f"patch_masking.ratio = {ratio:g} leaves none of {total} tokens (a grid of {grid},"
                " frames, rows, columns): lower it, or train on larger pictures"
            )
        weighed = mark_tokens(weights, patch).flatten(1).cpu()
        if not self.zero_weight_first:
            weighed = torch.ones_like(weighed)
        draws = torch.rand(weighed.shape, generator=generator)
        if count == total:
            return None
        order = (draws - weighed.float()).argsort(dim=1)
        tokens = order[:, :count].sort(dim=1).values
        needs = weighed.sum(1, keepdim=True).double()
        first = (count / needs.clamp_min(1)).clamp(max=1)  # of those with weight, how many stay
        rest = (count - needs).clamp_min(0) / (total - needs).clamp_min(1)
        inverse = torch.where(weighed, 1 / first, 1 / rest.clamp_min(1 / total)).float()
        kept_marks = torch.zeros(weighed.shape).scatter(1, tokens, 1.0)
        return TokenSelection(
            tokens=tokens.to(weights.device),
            grid=grid,
            kept=spread_tokens(kept_marks, grid, patch).to(weights.device),
            importance=spread_tokens(kept_marks * inverse, grid, patch).to(weights.device),
            detached=False,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioPlan:
    """Which share of the tokens is removed as a run goes on.

    schedule: "constant", or "cosine": ratio cos(pi x / 2)^power.
    full_from: share of the run after which none is removed (the paper's unmasking tuning); x is the
        share that is done of what lies before.
    ValueError for a ratio outside [0, 1).
    """

    ratio: float
    schedule: RatioSchedule = "constant"
    power: float = 4.0
    full_from: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a ratio that leaves nothing."""
        if not 0 <= self.ratio < 1:
            raise ValueError(f"patch_masking.ratio must lie in [0, 1), got {self.ratio:g}")

    def find_ratio(self, progress: float) -> float:
        """The share removed where `progress` of the run, in [0, 1], is done."""
        if progress >= self.full_from:
            return 0.0
        if self.schedule == "cosine":
            quarter = math.pi / 2 * progress / self.full_from
            return self.ratio * math.cos(quarter) ** self.power
        return self.ratio


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedShape:
    """Widths and depths of an encoder of kept tokens and a decoder of all."""

    width: int
    depth: int
    decoder_width: int
    decoder_depth: int
    mlp_ratio: float = 4.0

    def count_encoder(self, tokens: int | float) -> float:
        """FLOPs of the encoder's blocks for one sample."""
        return self.depth * count_block(self.width, tokens, self.mlp_ratio)

    def count(self, tokens: int, ratio: float) -> float:
        """FLOPs of the blocks for one sample of `tokens`, of which `ratio` are removed."""
        decoder = self.decoder_depth * count_block(self.decoder_width, tokens, self.mlp_ratio)
        return self.count_encoder(tokens * (1 - ratio)) + decoder


def count_block(width: int, tokens: int | float, mlp_ratio: float = 4.0) -> float:
    """FLOPs of a DiT block: (8 + 4 m) d^2 k of its linear layers, 4 d k^2 of its attention.

    A product and a sum count as two, as everywhere (`routing.flops`). What every block makes of the
    condition is the same for all tokens and left out, as reading of a text is.
    """
    return (8 + 4 * mlp_ratio) * width**2 * tokens + 4 * width * tokens**2
