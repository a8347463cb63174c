"""The tables `[swap]` and `[mix]`: backgrounds swapped, subjects mixed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from frisket.config.data import Count, Fraction, Positive, Section, _Pixels


class Swap(Section):
    """Background swap: what the mask excludes is replaced by another background."""

    rate: Fraction = 0.0
    """Share of steps that see a swapped clip; 0 turns it off."""
    source: Literal["bank", "folder", "clips", "flat", "gradient", "noise"] = "bank"
    """bank: sampled once from the base model by `prompts`; folder: captioned clips in `path`;
    clips: other clips of the data set outside their own masks; flat, gradient, noise: drawn."""
    path: Path | None = None
    """Folder of captioned backgrounds (source = "folder")."""
    prompts: tuple[str, ...] = ()
    """Background phrases the bank is sampled for (source = "bank")."""
    bank_prompt: str = "nothing on {background}"
    """How a phrase becomes the prompt of an empty scene."""
    bank_seeds: Count = 1
    """Pictures sampled for each phrase."""
    variants: Count = 8
    """Composites of each clip."""
    space: Literal["pixel", "latent"] = "pixel"
    """pixel: each composite is made in pixels and encoded; latent: each background is encoded once,
    and a clip's cached latents are laid over it (docs/background-swap-and-mixes)."""
    template: str = "{caption} on {background}"
    """How the caption names the new background."""
    feather: _Pixels = 0.0
    """Softness of the seam in pixels (a mask's own soft edge is kept)."""
    despill: Fraction = 0.0
    """How strongly the old background's colour is taken out of soft edges (pixel space)."""
    grow: _Pixels = 0.0
    """Pixels by which what is kept of the clip reaches past its mask (latent space)."""

    @model_validator(mode="after")
    def _check_space(self) -> "Swap":
        if self.space == "latent" and self.despill:
            raise ValueError(
                'swap: `despill` mends the colour of pixels; leave it out, or set space = "pixel"'
            )
        if self.space == "pixel" and self.grow:
            raise ValueError(
                "swap: `grow` is of the cells that are kept in latent space; leave it out, or set"
                ' space = "latent"'
            )
        return self

    @model_validator(mode="after")
    def _check_source(self) -> "Swap":
        if self.rate > 0 and self.source == "folder" and self.path is None:
            raise ValueError('swap: source = "folder" needs `path`')
        if self.rate > 0 and self.source == "bank" and not self.prompts:
            raise ValueError('swap: source = "bank" needs `prompts`, the backgrounds to sample')
        if "{background}" not in self.template:
            raise ValueError("swap: `template` must hold {background}, else the swap goes unnamed")
        return self


class Mixes(Section):
    """Seg-Mix: subjects of several clips, cut out by their masks, in one scene."""

    rate: Fraction = 0.0
    """Share of steps that see a mix; 0 turns it off. Of the other steps [swap] takes its share."""
    variants: Count = 8
    """Mixes of each clip."""
    subjects: Annotated[int, Field(ge=2, le=6)] = 2
    """Subjects in one mix. The others are of clips of other data sets, where several have masks;
    of a single set, of its other clips."""
    ground: Literal["clip", "swap", "flat"] = "flat"
    """What they stand before. clip: the clip's own picture stays, and the others are laid into it;
    swap: the backgrounds of [swap]; flat: plain colours."""
    space: Literal["pixel", "latent"] = "pixel"
    """pixel: each mix is made in pixels and encoded; latent: cached latents are moved by whole
    cells, at their own size, and nothing but the grounds is encoded."""
    scale: tuple[Positive, Positive] = (0.5, 1.0)
    """Smallest and largest size of a subject, as a share of its own (pixel space)."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Largest share of a subject that another may hide."""
    template: str = "{a} and {b}"
    """How the captions of two subjects are joined; of more, again for each."""
    despill: Fraction = 0.0
    """How strongly the old background's colour is taken out of soft edges (pixel space)."""

    @model_validator(mode="after")
    def _check_table(self) -> "Mixes":
        if "{a}" not in self.template or "{b}" not in self.template:
            raise ValueError("mix: `template` must hold {a} and {b}, else a subject goes unnamed")
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"mix: `scale` is [smallest, largest], got {list(self.scale)}")
        defaults = type(self).model_fields
        for name in ("scale", "despill"):
            if self.space == "latent" and getattr(self, name) != defaults[name].default:
                raise ValueError(
                    f"mix: `{name}` is for pixels; latents are moved as they are: leave it out, or"
                    ' set space = "pixel"'
                )
        return self
