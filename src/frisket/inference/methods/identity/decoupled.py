"""FastFace's guidance as a method, in pipelines that ask about both sides at once or one by one."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from frisket.adapters.targets import unwrap_model
from frisket.families.base import Family
from frisket.families.experts import experts_of
from frisket.inference.methods.identity.guidance import (
    GuidanceKind,
    GuidanceStrength,
    combine_decoupled,
    differ_from_plain,
)
from frisket.inference.methods.identity.image_attention import (
    ImageAttention,
    StepCount,
    tell_row_owners,
)
from frisket.inference.methods.identity.passes import DenoiserPasses, combine_passes
from frisket.inference.sample_specs import SampleSpec

# The names that pipelines have for the guidance between two sides, the more telling first.
GUIDANCE_NAMES = ("true_cfg_scale", "guidance_scale")
LEAST = 1.5  # guidance below which a prediction cannot be carried through the pipeline's formula


@dataclass(frozen=True, slots=True)
class GuidedCall:
    """What one call of a pipeline is guided by; `strengths` by the name of an expert ("" alone)."""

    count: int
    text: Any
    negative: Any
    strengths: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PositiveSide:
    """What the prompt's side gave, until the other side is asked about; `middle` as it is told."""

    t: float
    output: Tensor
    middle: Tensor | None


@dataclass(eq=False, slots=True)
class DecoupledGuidance:
    """Image adapters with a guidance of their own; the pipeline's own strength has no say then.

    Theirs is three rows a step; here it is the pipeline's two sides and one more pass (two for
    `apart`), so that the pipeline stays the public one, whether it asks about both sides in one
    call (Stable Diffusion) or in two, the prompt's first (Wan, Qwen-Image, HunyuanVideo 1.5). What
    is guided comes to it as another negative prediction: n' with n' + s (p - n') = guided, for the
    pipeline's strength s and positive p. What a pipeline does to a guided prediction afterwards
    (Qwen-Image's norm, the rescaling of sdxl-v) it still does. `first` and `second` as in
    `combine_decoupled`.
    """

    family: Family
    denoiser: nn.Module
    attention: ImageAttention
    first: GuidanceStrength
    second: GuidanceStrength
    kind: GuidanceKind = "identity"
    renorm: bool = False
    rescale: float = 0.0
    steps: StepCount = field(default_factory=StepCount)
    # In the order they came: a method that blends predictions asks several times a step.
    waiting: list[PositiveSide] = field(default_factory=list)

    @contextmanager
    def attach_guidance(
        self, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Inside, predictions are guided; the attention is attached already.

        ValueError for a call without a negative side or with next to no guidance, and for more
        steps than there are strengths.
        """
        guided_call = read_call(call(), len(specs), list(experts_of(self.denoiser)))
        for strength in (self.first, self.second):
            strength.check(specs[0].steps)
        self.steps, self.waiting = StepCount(), []
        with combine_passes(self.denoiser, self.attention, partial(self.guide, call=guided_call)):
            yield

    def guide(self, passes: DenoiserPasses, call: GuidedCall) -> Tensor:
        """What the pipeline is given in place of a prediction, or of the negative half of it.

        A pass without the image is left as it is. ValueError for a pipeline that asks about the
        negative side first, or about one alone.
        """
        if passes.attention.side == "off":
            return passes.output
        denoiser_call = self.family.streams.read(passes.model, passes.args, passes.kwargs)
        t = float(denoiser_call.t.max())
        owners = tell_row_owners(
            len(passes.output),
            denoiser_call.text,
            count=call.count,
            text=call.text,
            negative=call.negative,
        )
        if len(passes.output) == 2 * call.count:
            negative, positive = passes.output.chunk(2)
            middle = None if self.kind == "identity" else passes.run("negative").chunk(2)[1]
            other = None if self.kind == "text" else passes.run("image").chunk(2)[0]
            positive_side = PositiveSide(t, positive, middle)
            solved = self._solve(passes, call, positive_side, negative, other)
            return torch.cat([solved, positive])
        if all(owners.positive):
            middle = None if self.kind == "identity" else passes.run("negative")
            self.waiting = [side for side in self.waiting if side.t == t]
            self.waiting.append(PositiveSide(t, passes.output, middle))
            return passes.output
        if not self.waiting or self.waiting[0].t != t:
            raise ValueError(
                f"{type(passes.model).__name__} was asked about the negative side before the"
                " prompt's: decoupled guidance needs the prompt's first, or both in one call"
            )
        other = None if self.kind == "text" else passes.run("image")
        return self._solve(passes, call, self.waiting.pop(0), passes.output, other)

    def _solve(
        self,
        passes: DenoiserPasses,
        call: GuidedCall,
        positive: PositiveSide,
        negative: Tensor,
        other: Tensor | None,
    ) -> Tensor:
        """The negative prediction by which the pipeline comes to what is guided.

        n' = n + (guided - plain) / (1 - s), with plain = n + s (p - n), what the pipeline would
        have come to; where guidance is plain by s, n itself. `other` is the negative side with the
        image: the middle, or for `apart` the full one.
        """
        middle = positive.middle if positive.middle is not None else other
        full = other if self.kind == "apart" else positive.output
        assert middle is not None
        assert full is not None
        strength = call.strengths[self._name_expert(passes.model)]
        step = self.steps.read(torch.tensor(positive.t))
        first, second = (strengths.at(step, positive.t) for strengths in (self.first, self.second))
        sides = negative.float(), middle.float(), full.float()
        if self.kind != "apart" and not self.renorm and self.rescale == 0:
            more = differ_from_plain(*sides, first=first, second=second, strength=strength)
        else:
            guided = combine_decoupled(
                *sides,
                first=first,
                second=second,
                kind=self.kind,
                renorm=self.renorm,
                rescale=self.rescale,
            )
            prompt_side = positive.output.float()
            more = guided - (sides[0] + strength * (prompt_side - sides[0]))
        return (sides[0] + more / (1 - strength)).to(negative.dtype)

    def _name_expert(self, model: nn.Module) -> str:
        experts = experts_of(self.denoiser)
        return next(
            name
            for name, expert in experts.items()
            if expert is model or unwrap_model(expert) is model
        )


def check_strength(strength: float) -> None:
    """ValueError for a pipeline's guidance below 1.5, from which nothing else can be made."""
    if strength < LEAST:
        raise ValueError(
            f"guidance {strength:g} leaves next to nothing of the negative side, which decoupled"
            f" guidance needs: sample with at least {LEAST:g} (its number has no say beside the two"
            " strengths)"
        )


def read_call(kwargs: Mapping[str, Any], count: int, experts: Sequence[str]) -> GuidedCall:
    """What a pipeline's call says of its two sides.

    The second of two experts may have a strength of its own (`guidance_scale_2`). ValueError where
    there is no negative side, no strength, or one below 1.5: n' would lie so far away that rounding
    shows.
    """
    name = next((name for name in GUIDANCE_NAMES if kwargs.get(name) is not None), None)
    text, negative = kwargs.get("prompt_embeds"), kwargs.get("negative_prompt_embeds")
    if name is None or text is None or negative is None:
        raise ValueError(
            "decoupled guidance needs a negative side, and this call has none: sample with guidance"
            f" of at least {LEAST:g} (its number has no say beside the two strengths)"
        )
    strengths = [float(kwargs[name])] * len(experts)
    if kwargs.get(f"{name}_2") is not None and len(strengths) > 1:
        strengths[1] = float(kwargs[f"{name}_2"])
    for strength in strengths:
        check_strength(strength)
    return GuidedCall(count, text, negative, dict(zip(experts, strengths, strict=True)))
