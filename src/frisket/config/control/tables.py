"""`[control]`: a frozen ControlNet beside what is trained, or the ControlNet that is trained."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from frisket.config.data import Count, Fraction, Section

Scale = Annotated[float, Field(ge=0, allow_inf_nan=False)]
DROPOUT = 0.3  # beside a LoRA, so that it works without the net too
SCALE = (0.5, 1.0)


class Control(Section):
    """A ControlNet that is shown the control pictures of `[[data]] control` (docs/control)."""

    source: Path | None = None
    """Folder of a ControlNet (diffusers): frozen beside a LoRA, it carries the structure. With
    `model.train = "controlnet"` the one to go on from; empty begins one from the base."""
    dropout: Fraction | None = None
    """Share of draws that a LoRA is trained on without control; empty takes 0.3."""
    scale: tuple[Scale, Scale] | None = None
    """Strength of the control beside a LoRA, drawn evenly between the two for each clip of a step;
    empty takes [0.5, 1.0]."""
    confine: Literal["none", "inside", "outside"] = "none"
    """Where the control acts while training: everywhere, in the regions that have a weight, or in
    all the others. Clips without a mask are under control everywhere."""
    layers: Count | None = None
    """Of a ControlNet that begins from the base: how many of its blocks are copied; empty takes
    what the family's own training script does."""

    @field_validator("scale")
    @classmethod
    def _check_scale(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] > value[1]:
            raise ValueError(
                f"control.scale should be [least, most], got [{value[0]:g}, {value[1]:g}]"
            )
        return value

    @property
    def drawn_dropout(self) -> float:
        """The share of draws without control, beside a LoRA."""
        return DROPOUT if self.dropout is None else self.dropout

    @property
    def drawn_scale(self) -> tuple[float, float]:
        """Least and greatest strength, beside a LoRA."""
        return SCALE if self.scale is None else self.scale
