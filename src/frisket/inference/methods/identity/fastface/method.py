"""FastFace at sampling: a face adapter with decoupled guidance and changed attention maps."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from frisket.families.base import Family
from frisket.inference.methods.identity.decoupled import DecoupledGuidance
from frisket.inference.methods.identity.guidance import GuidanceKind, GuidanceStrength
from frisket.inference.methods.identity.image_attention import (
    Attend,
    ImageAttention,
    attend_plainly,
)
from frisket.inference.methods.identity.passes import combine_passes
from frisket.inference.methods.identity.reference_method import ReferenceAttention, pick_mask
from frisket.inference.methods.identity.strict import StrictConfinement
from frisket.inference.sample_specs import SampleSpec


@dataclass(frozen=True, slots=True)
class DecoupledStrengths:
    """How a prediction is guided: `combine_decoupled`'s arguments, strengths by the step."""

    first: GuidanceStrength
    second: GuidanceStrength
    kind: GuidanceKind = "identity"
    renorm: bool = False
    rescale: float = 0.0


@dataclass(frozen=True, slots=True)
class FastFace:
    """A face's adapter, guided apart from the text; a method.

    `face` is the adapter with its masks and its LoRA, `attend` how its layers read the face,
    `strengths` the guidance (None: the pipeline's own). With a scale of 0 or a mask of zeros
    nothing of it acts and the model is the bare one, bit for bit: guidance apart from the text
    means nothing without an identity. `strict` keeps what is outside the mask as the pipeline
    would have it without any of this.
    """

    family: Family
    face: ReferenceAttention
    attend: Attend = attend_plainly
    strengths: DecoupledStrengths | None = None

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Inside, the face acts; raises as `DecoupledGuidance.attach_guidance` and `pick_mask`."""
        face = self.face
        mask = pick_mask(face.masks, specs)
        adapter = replace(face.adapter, mask=mask, attend=self.attend)
        attention = ImageAttention(face.layers, [adapter])
        with ExitStack() as stack:
            if adapter.scale_at(0) == 0 or adapter.is_masked_out:
                yield
                return
            if face.lora is not None:
                stack.enter_context(face.lora.attach(attention, mask))
            stack.enter_context(attention.attach(pipeline, call, specs))
            # What is put on last comes first: the blend is of predictions that are guided.
            if face.strict and mask is not None:
                strict = StrictConfinement(face.denoiser, attention, mask)
                blend = partial(strict.blend, count=len(specs))
                stack.enter_context(combine_passes(face.denoiser, attention, blend))
            if self.strengths is not None:
                guidance = self.make_guidance(attention, self.strengths)
                stack.enter_context(guidance.attach_guidance(call, specs))
            yield

    def make_guidance(
        self, attention: ImageAttention, strengths: DecoupledStrengths
    ) -> DecoupledGuidance:
        """The guidance over an adapter that is attached."""
        return DecoupledGuidance(
            self.family,
            self.face.denoiser,
            attention,
            strengths.first,
            strengths.second,
            strengths.kind,
            strengths.renorm,
            strengths.rescale,
        )
