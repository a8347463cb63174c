"""UniID at sampling: both branches in one denoiser, rescaled and by the step."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from frisket.attention.base import AttentionLayer
from frisket.inference.methods.identity.image_attention import (
    ImageAdapter,
    ImageAttention,
    Projection,
)
from frisket.inference.methods.identity.layered import LayeredAttention
from frisket.inference.methods.identity.reference_method import pick_mask
from frisket.inference.methods.identity.rescale import MergeSchedule, rescale_to_output
from frisket.inference.methods.identity.strict import StrictConfinement
from frisket.inference.methods.identity.uniid.words import FaceWords, list_word_adapters
from frisket.inference.methods.plugin import ClipSize
from frisket.inference.sample_specs import SampleSpec
from frisket.shapes import Weights


@dataclass(frozen=True, slots=True)
class FaceTokens:
    """What the adapter branch made of a face, and keys and values by the name of a layer.

    `negative` are its tokens of no face, for the guidance's other side.
    """

    keys: Mapping[str, Projection]
    values: Mapping[str, Projection]
    tokens: Float[Tensor, "1 n c"]
    negative: Float[Tensor, "1 n c"]


@dataclass(frozen=True, slots=True)
class UniId:
    """An identity in a UNet; a method. Either branch may be missing.

    `layers` are those with a place for a branch. `scale` multiplies the schedule of both branches;
    with 0 the denoiser is the bare one, bit for bit. `rescale` is the paper's normalised rescaling
    of the adapter branch. `masks` (1 1 f h w by clip size; empty: everywhere) confine both
    branches at the attention's output; `strict` blends predictions as well.
    """

    denoiser: nn.Module
    layers: Sequence[AttentionLayer]
    words: FaceWords | None
    image: FaceTokens | None
    schedule: MergeSchedule = field(default_factory=MergeSchedule)
    scale: float = 1.0
    rescale: bool = True
    masks: Mapping[ClipSize, Weights] = field(default_factory=dict)
    strict: bool = False

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Inside, the face is in every prediction; ValueError for a size that has no mask."""
        mask = pick_mask(self.masks, specs)
        attention = self.make_attention(call()["prompt_embeds"], mask)
        method: Any = attention
        if self.strict and mask is not None and self.scale != 0 and mask.any():
            method = StrictConfinement(self.denoiser, attention, mask)
        with method.attach(pipeline, call, specs):
            yield

    def make_attention(
        self, text: Float[Tensor, "b s c"], mask: Float[Tensor, "1 f h w"] | None = None
    ) -> ImageAttention:
        """Both branches for these prompts, the words first: the rest is rescaled to them."""
        word_adapters = []
        if self.words is not None:
            scales = [self.scale * scale for scale in self.schedule.list_text_scales()]
            word_adapters = list_word_adapters(self.words, self.layers, text, scales, mask)
        word_attention = ImageAttention(self.layers, word_adapters)
        if self.image is None:
            return word_attention
        adapter = ImageAdapter(
            self.image.keys,
            self.image.values,
            self.image.tokens,
            self.image.negative,
            scale=[self.scale * scale for scale in self.schedule.list_adapter_scales()],
            mask=mask,
            merge=rescale_to_output if self.rescale else None,
        )
        return LayeredAttention(self.layers, [adapter], before=word_attention)
