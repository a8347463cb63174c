"""The sections of the configuration about noise levels, and about the noise."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from frisket.config.data import Fraction, Positive, Section
from frisket.objectives.kinds import (
    Bounds,
    Density,
    Emphasis,
    LevelWeighting,
    ShiftLaw,
    find_fault,
)


class Timesteps(Section):
    """Which noise levels are trained, and how much each counts (docs/noise-levels)."""

    density: Density | None = None
    """Distribution of t; empty takes the variant's own."""
    mean: float | None = None
    """Mean of logit_normal; empty takes the variant's own (0 for most)."""
    std: Positive | None = None
    """Spread of logit_normal; empty takes the variant's own (1 for most)."""
    scale: float = 1.29
    """Scale of mode."""
    alpha: Positive = 2.0
    """First parameter of beta: above that of beta, more noise."""
    beta: Positive = 2.0
    """Second parameter of beta."""
    histogram: tuple[Annotated[float, Field(ge=0)], ...] = ()
    """Of density = "histogram": how often each of so many equal parts of t from 0 to 1 is drawn."""
    levels: tuple[Fraction, ...] = ()
    """Of density = "levels": the only values of t, each drawn as often as it is listed."""
    parts: tuple[tuple[float, float, float], ...] = ()
    """[share, mean, std] of draws that come from another logit_normal instead, unshifted."""
    emphasis: Emphasis = "balanced"
    """Draws more of the noisy end (content) or of the clean one (style), by a cubic law."""
    shift: Positive | ShiftLaw = "auto"
    """Push towards noise (> 1) or detail (< 1); "auto" is the shift that the model's own sampler
    uses: by the size of each clip (FLUX, Qwen-Image), or the variant's number. A name takes the law
    by size of that name, whatever the model."""
    low: Fraction = 0.0
    """Smallest t trained."""
    high: Fraction = 1.0
    """Largest t trained."""
    bounds: Bounds = "squeeze"
    """What low and high do to a draw: squeeze maps it into the range, after the shift; cut leaves
    the density as it is and draws within the range alone; squeeze_before_shift maps it, then
    shifts."""
    experts: Literal["by_noise", "even"] = "by_noise"
    """How often each expert of a model of two is trained: as often as its noise levels are drawn,
    or both as often."""
    weighting: LevelWeighting = "none"
    """Loss weight of a noise level: cosmap, sigma_sqrt, sigma, bell, half_bell and flex for flow
    models, debiased and noise_like for epsilon and v models."""
    min_snr: Annotated[float, Field(ge=0)] = 0.0
    """Gamma of min-SNR weighting (epsilon and v models; 5 is usual); 0 turns it off."""

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "Timesteps":
        if fault := find_fault(self):
            raise ValueError(f"timesteps: {fault}")
        return self


class Noise(Section):
    """The noise that is added to the latents: plain Gaussian, unless something is asked for."""

    offset: Annotated[float, Field(ge=0)] = 0.0
    """Strength of a shift of each whole channel (0.05 to 0.1 is usual); 0 is off."""
    offset_random: bool = False
    """Draw the strength between 0 and `offset` in every step."""
    multires_iterations: Annotated[int, Field(ge=0)] = 0
    """Coarser layers of noise laid over (6 to 10 is usual); 0 is off."""
    multires_discount: Fraction = 0.3
    """Strength of each coarser layer, as a share of the finer one's."""

    @model_validator(mode="after")
    def _require_offset(self) -> "Noise":
        if self.offset_random and not self.offset:
            raise ValueError(
                "`noise.offset_random` draws up to `noise.offset`, which is 0: give it"
            )
        return self
