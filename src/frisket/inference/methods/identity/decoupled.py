"""FastFace's guidance as a method, on pipelines that guide in one call of the denoiser."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from frisket.families.base import Family
from frisket.inference.methods.identity.guidance import GuidanceKind, Strength, guide_decoupled
from frisket.inference.methods.identity.image_attention import ImageAttention, StepCount
from frisket.inference.methods.identity.passes import DenoiserPasses, combine_passes
from frisket.inference.sample_specs import SampleSpec


@dataclass(eq=False, slots=True)
class DecoupledGuidance:
    """Image adapters with a guidance of their own; the pipeline's own strength has no say then.

    Theirs is three rows a step; here it is the pipeline's two and one more pass of both (two more
    for `apart`), so that the pipeline stays the public one. `first` and `second` as in
    `guide_decoupled`.
    """

    family: Family
    denoiser: nn.Module
    attention: ImageAttention
    first: Strength
    second: Strength
    kind: GuidanceKind = "identity"
    renorm: bool = False
    rescale: float = 0.0
    steps: StepCount = field(default_factory=StepCount)

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Inside, predictions are guided; ValueError, in the first call, for calls side by side."""
        self.steps = StepCount()
        combine = partial(self.guide, count=len(specs))
        with (
            self.attention.attach(pipeline, call, specs),
            combine_passes(self.denoiser, self.attention, combine),
        ):
            yield

    def guide(self, passes: DenoiserPasses, count: int) -> Tensor:
        """The guided prediction on both sides, of which any guidance makes the same again."""
        if len(passes.output) != 2 * count:
            raise ValueError(
                f"{type(passes.model).__name__} was asked about {len(passes.output)} rows for"
                f" {count} samples: decoupled guidance needs both sides in one call. Sample with"
                " guidance above 1; models that are asked about each side apart cannot be guided so"
            )
        negative, full = passes.output.chunk(2)
        if self.kind == "identity":
            middle = passes.run("image").chunk(2)[0]
        else:
            middle = passes.run("negative").chunk(2)[1]
        if self.kind == "apart":
            full = passes.run("image").chunk(2)[0]
        level = self.family.streams.read(passes.model, passes.args, passes.kwargs).t[:1]
        step, t = self.steps.read(level), float(level)
        guided = guide_decoupled(
            negative,
            middle,
            full,
            first=self.first.at(step, t),
            second=self.second.at(step, t),
            kind=self.kind,
            renorm=self.renorm,
            rescale=self.rescale,
        )
        return torch.cat([guided, guided])
