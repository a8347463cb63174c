"""`[routing]` and `[patch_masking]`: which tokens of a clip a training step carries."""

from typing import Annotated, Literal

from pydantic import Field

from frisket.config.data import Fraction, Positive, Section


class Routing(Section):
    """While training, tokens that carry no loss pass by the middle blocks (docs/routing)."""

    background: Fraction = 1.0
    """Share of the tokens without weight that go through every block; 1 turns routing off."""
    start: int = 2
    """First block that they pass by; below 0 it counts from the end."""
    end: int = -4
    """First block after those that they pass by; below 0 it counts from the end."""
    dilate: Annotated[int, Field(ge=0, le=16)] = 1
    """Tokens by which what has weight is grown: all of that is always carried."""
    full_step_probability: Fraction = 0.25
    """Share of steps that carry every token."""
    full_from: Fraction = 0.85
    """Share of the run after which every step carries every token."""
    max_kept: Fraction = 0.85
    """A batch that would carry a larger share of its tokens carries all of them."""
    multiple: Annotated[int, Field(ge=1, le=4096)] = 64
    """What the number of carried tokens is rounded up to."""


class PatchMasking(Section):
    """While training, models that can leave out a part of the tokens (docs/maskdit)."""

    ratio: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each clip's tokens that is left out, those without weight first; 0 turns it off."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the ratio falls as the run goes on; cosine: by the `power` of a quarter wave."""
    power: Positive = 4.0
    """Exponent of schedule = "cosine"."""
    zero_weight_first: bool = True
    """Leave out tokens without weight before any other; false draws from all alike, as the paper
    does."""
    full_from: Fraction = 0.85
    """Share of the run after which no token is left out (the paper's unmasking tuning)."""
