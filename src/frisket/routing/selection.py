"""Which of the image's tokens a step carries through the window."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from frisket.shapes import Weights


@dataclass(frozen=True, slots=True)
class TokenSelection:
    """Kept tokens of a batch, and what that means for the cells of its latents.

    `tokens` are places on the token `grid` (f h w, row by row), one row for each sample or one for
    all. `kept` is 1 at the cells of kept tokens and 0 elsewhere; `importance` 1 / P(kept) there.
    """

    tokens: Int[Tensor, "_ k"]
    grid: tuple[int, int, int]
    kept: Weights
    importance: Weights
