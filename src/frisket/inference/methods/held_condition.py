"""Samples an image-to-video model under a condition of its own making, kept for every sample."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from frisket.families.base import Conditioning, Family
from frisket.inference.sample_specs import SampleSpec


@dataclass(frozen=True, slots=True)
class HeldCondition:
    """What `Family.image_conditioning` gave of one clip, in place of the pipeline's first frame."""

    family: Family
    conditioning: Conditioning

    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> AbstractContextManager[None]:
        """Inside, every sample of a call has the condition; see `Family.hold_condition`."""
        return self.family.hold_condition(pipeline, self.conditioning)
