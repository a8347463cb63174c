"""Which of the image's tokens a step carries through the routed blocks."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Generator, Tensor
from torch.nn import functional

from frisket.shapes import Weights

Patch = tuple[int, int, int]  # cells of the latent grid behind one token, f h w


@dataclass(frozen=True, slots=True)
class TokenSelection:
    """Kept tokens of a batch, and what that means for the cells of its latents.

    `tokens` are places on the token `grid` (f h w, row by row), ascending, one row for each sample.
    `kept` is 1 at the cells of kept tokens and 0 elsewhere; `importance` is 1 / P(kept) at kept
    cells and 0 elsewhere, so that the mean over draws of importance * x is x wherever P(kept) > 0.
    `detached`: what the denoiser says at the cells of other tokens carries no gradient (a denoiser
    that reconstructs the tokens it left out wants one there).
    """

    tokens: Int[Tensor, "b k"]
    grid: tuple[int, int, int]
    kept: Weights
    importance: Weights
    detached: bool = True

    @property
    def share(self) -> float:
        """Of all tokens, how many are kept."""
        return self.tokens.shape[1] / math.prod(self.grid)

    @property
    def patch(self) -> Patch:
        """Cells of the latent grid behind one token."""
        frames, height, width = self.kept.shape[2:]
        return frames // self.grid[0], height // self.grid[1], width // self.grid[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundSelection:
    """Every token that has weight, grown by some, and a random share of the others.

    background: share in [0, 1] of the tokens without weight that is kept.
    dilate: how far, in tokens of the same frame, what has weight is grown: a silhouette that fits
        exactly would tell the model where its subject is.
    max_kept: a batch that would keep a larger share is not routed.
    multiple: to which the count is rounded up, with further tokens of the background.
    """

    background: float
    dilate: int = 1
    max_kept: float = 0.85
    multiple: int = 64

    def __call__(
        self,
        weights: Weights,
        patch: Patch,
        generator: Generator,
        *,
        always: Weights | None = None,
    ) -> TokenSelection | None:
        """Draw the tokens of a batch; None where it is carried whole.

        `weights` are what the loss weighs cells by (b 1 f h w, >= 0), `always` is above 0 in cells
        that are kept whatever they weigh and grow nothing. All samples keep as many tokens as the
        one that needs most. One draw of b times tokens from `generator` (on the CPU), whether it is
        used or not. ValueError where the cells do not make whole tokens.
        """
        grid = count_tokens(tuple(weights.shape[2:]), patch)
        required = self.require(weights, patch, always=always)
        total = required.shape[1]
        draws = torch.rand(required.shape, generator=generator)
        count = self.count_kept(required)
        if count is None:
            return None
        needs = required.sum(1)
        order = draws.masked_fill(required, -1.0).argsort(dim=1)
        tokens = order[:, :count].sort(dim=1).values
        # Of the M tokens not required, count - needs are drawn, each as likely as the other.
        chances = (count - needs).double() / (total - needs).clamp_min(1)
        inverse = torch.where(required, 1.0, (1 / chances)[:, None]).float()
        marks = torch.zeros(required.shape).scatter(1, tokens, 1.0)
        importance = torch.zeros(required.shape).scatter(1, tokens, inverse.gather(1, tokens))
        return TokenSelection(
            tokens=tokens.to(weights.device),
            grid=grid,
            kept=spread_tokens(marks, grid, patch).to(weights.device),
            importance=spread_tokens(importance, grid, patch).to(weights.device),
        )

    def require(
        self, weights: Weights, patch: Patch, *, always: Weights | None = None
    ) -> Bool[Tensor, "b n"]:
        """The tokens that are kept whatever is drawn, row by row; on the CPU."""
        required = grow_tokens(mark_tokens(weights, patch), self.dilate)
        if always is not None:
            required = required | mark_tokens(always, patch)
        return required.flatten(1).cpu()

    def count_kept(self, required: Bool[Tensor, "b n"]) -> int | None:
        """How many tokens each sample of a batch keeps; None where it is carried whole."""
        total, needs = required.shape[1], required.sum(1)
        carried = needs + torch.ceil(self.background * (total - needs) - 1e-6).long()
        rounded = -(-max(1, int(carried.max())) // self.multiple) * self.multiple
        count = min(total, rounded)
        return None if count > self.max_kept * total else count


def count_tokens(cells: tuple[int, ...], patch: Patch) -> tuple[int, int, int]:
    """The token grid of a latent grid, f h w; ValueError where tokens would not be whole."""
    if any(side % width for side, width in zip(cells, patch, strict=True)):
        raise ValueError(f"{cells} cells (f h w) do not make whole tokens of {patch}")
    frames, rows, columns = (side // width for side, width in zip(cells, patch, strict=True))
    return frames, rows, columns


def mark_tokens(cells: Weights, patch: Patch) -> Bool[Tensor, "b tf th tw"]:
    """Tokens with any cell above 0."""
    return functional.max_pool3d((cells > 0).float(), patch)[:, 0] > 0


def grow_tokens(tokens: Bool[Tensor, "b tf th tw"], by: int) -> Bool[Tensor, "b tf th tw"]:
    """Marked tokens and their neighbours of the same frame, to every side and corner."""
    if not by:
        return tokens
    side = 2 * by + 1
    return functional.max_pool3d(tokens.float(), (1, side, side), 1, (0, by, by)) > 0


def spread_tokens(values: Tensor, grid: tuple[int, int, int], patch: Patch) -> Weights:
    """What each token has (b n), in all of its cells (b 1 f h w)."""
    spread = values.view(len(values), 1, *grid)
    for dim, width in enumerate(patch, start=2):
        spread = spread.repeat_interleave(width, dim)
    return spread
