"""What loss terms that compare structure are given: which frames, the controls, the extractor."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from frisket.shapes import Clip, PerSample, Structure


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureRequest:
    """What a term asks for: `frames` latent frames of a clip a step, under one extractor.

    `extractor` is of `losses.structure.EXTRACTORS`, or a model's kind, whose folder `source` is.
    """

    extractor: str
    source: str = ""
    frames: int = 1
    target: Literal["clip", "control"] = "clip"


@runtime_checkable
class StructureTerm(Protocol):
    """A term whose `needs` hold "structure" says which."""

    @property
    def structure(self) -> StructureRequest:
        """What is looked at in a step, and by which extractor."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StructureComparison:
    """The structure of one step: of each sample the latent frames to look at, drawn anew.

    `extract` reads RGB pixels b 3 F H W in [0, 1] and gives a map b c F H W, differentiable.
    `controls` are the control pictures b 3 f H W in [0, 1], of each latent frame the last of the
    pixel frames that it stands for; None where the data have none. `noise` is s / (a + s) of each
    sample, x_t = a x_0 + s n: t itself of a flow, and comparable under any objective. `errors`
    holds the error of each sample that was looked at, without gradient.
    """

    frames: Sequence[Sequence[int]]
    noise: PerSample
    extract: Callable[[Clip], Structure]
    controls: Tensor | None = None
    errors: list[Tensor] = field(default_factory=list)
