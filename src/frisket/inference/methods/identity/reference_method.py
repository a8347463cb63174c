"""The method that an image adapter is, and how it is read: file, encoder, references, layers."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.image.files import read_image_adapter
from frisket.adapters.image.layouts import ImageAdapterFile, ImageAdapterKind
from frisket.adapters.targets import unwrap_model
from frisket.attention.base import AttentionLayer
from frisket.families.base import Family, Parts
from frisket.families.experts import experts_of
from frisket.inference.methods.identity.adapter_layers import (
    build_image_adapter,
    list_expert_places,
    name_layers,
    refuse_file,
    refuse_places,
)
from frisket.inference.methods.identity.face_lora import FaceLora, build_face_lora
from frisket.inference.methods.identity.image_attention import ImageAdapter, ImageAttention
from frisket.inference.methods.identity.reference_tokens import (
    POOLED,
    STATES,
    Combination,
    ReferenceReader,
    ReferenceTokens,
)
from frisket.inference.methods.identity.strict import StrictConfinement
from frisket.inference.methods.identity.vision_encoder import load_vision_encoder
from frisket.inference.methods.plugin import ClipSize, MethodRequest, MethodUnusable
from frisket.inference.sample_specs import SampleSpec
from frisket.shapes import Weights

log = logging.getLogger(__name__)
# Kinds that other methods read, by the name that a user asks for them with.
ELSEWHERE: Mapping[ImageAdapterKind, str] = {
    "instantid": "instantid",
    "uniid-adapter": "uniid",
    "uniid-text": "uniid",
    "faceid": "faceid",
    "faceid-plus": "faceid",
    "faceid-plusv2": "faceid",
}


@dataclass(eq=False, slots=True)
class ReferenceAttention:
    """An image adapter on a denoiser, with its LoRA where it has one; a method of sampling.

    `masks` are by the size of the clip, empty is everywhere; `strict` blends predictions as well.
    With a scale of 0 or a mask of zeros the model is the bare one bit for bit, LoRA included.
    """

    denoiser: nn.Module
    layers: Sequence[AttentionLayer]
    adapter: ImageAdapter
    masks: Mapping[ClipSize, Weights] = field(default_factory=dict)
    strict: bool = False
    lora: FaceLora | None = None

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Inside, the adapter acts; ValueError for a size of clip that has no mask."""
        mask = pick_mask(self.masks, specs)
        adapter = replace(self.adapter, mask=mask)
        attention = ImageAttention(self.layers, [adapter])
        acts = adapter.scale_at(0) != 0 and not adapter.is_masked_out
        with ExitStack() as stack:
            if self.lora is not None and acts:
                stack.enter_context(self.lora.attach(attention, mask))
            if self.strict and mask is not None and acts:
                method = StrictConfinement(self.denoiser, attention, mask)
                stack.enter_context(method.attach(pipeline, call, specs))
            else:
                stack.enter_context(attention.attach(pipeline, call, specs))
            yield


def pick_mask(
    masks: Mapping[ClipSize, Weights], specs: Sequence[SampleSpec]
) -> Float[Tensor, "m f h w"] | None:
    """The mask of the samples' size, in [0, 1]; None where there are no masks at all.

    ValueError for a size without one.
    """
    if not masks:
        return None
    size = (specs[0].frames, specs[0].height, specs[0].width)
    if size not in masks:
        sizes = ", ".join(f"{frames} x {height} x {width}" for frames, height, width in masks)
        raise ValueError(
            f"no mask was laid for clips of {size[0]} frames, {size[1]} x {size[2]} pixels (there"
            f" are masks for {sizes})"
        )
    return masks[size][:, 0].float().clamp(0, 1)


@dataclass(frozen=True, slots=True)
class ReadImageAdapter:
    """A file read and its references projected; `build` lays it on a denoiser."""

    file: ImageAdapterFile
    request: MethodRequest
    tokens: ReferenceTokens
    lora_scale: float = 1.0

    def build(self, family: Family, parts: Parts) -> ReferenceAttention:
        """The method for a loaded denoiser; MethodUnusable where its layers are not the file's."""
        denoiser, request = parts.denoiser, self.request
        if denoiser is None:
            raise ValueError("an image adapter is built for a loaded denoiser, and there is none")
        source = str(request.source)
        names = name_layers(self.file, source, family, denoiser)
        lora = None
        if self.file.loras:
            model = unwrap_model(next(iter(experts_of(denoiser).values())))
            lora = build_face_lora(self.file, source, model, self.lora_scale)
        return ReferenceAttention(
            denoiser,
            list_expert_places(family, denoiser),
            build_image_adapter(self.file, self.tokens, scale=request.scale, names=names),
            request.masks,
            request.strict,
            lora,
        )


def read_request(
    request: MethodRequest,
    family: Family,
    variant: str,
    *,
    kinds: Sequence[ImageAdapterKind],
    kind: ImageAdapterKind | None = None,
    combination: Combination = "join",
    structure: float = 1.0,
    lora_scale: float = 1.0,
) -> ReadImageAdapter:
    """Read a request's file and references, refusing what cannot be, before a denoiser is loaded.

    `kinds` are those that the method takes; `kind` names one that no tensor tells. `combination`
    and `structure` as in `ReferenceReader`. Raises MethodUnusable, AdapterMismatch, EmbeddingMixup
    and FileNotFoundError.
    """
    check_request(request, family, variant)
    source = str(request.source)
    file = read_image_adapter(request.source, kind)
    if file.kind not in kinds:
        raise MethodUnusable(_redirect_kind(source, file.kind))
    refuse_file(file, source, family, variant)
    for note in file.notes:
        log.warning("%s: %s", source, note)
    encoder = None
    if file.kind in (*POOLED, *STATES):
        encoder = load_vision_encoder(request.encoder, request.source)
    reader = ReferenceReader(file, source, encoder, combination, structure)
    return ReadImageAdapter(file, request, reader.project(request.references), lora_scale)


def check_request(request: MethodRequest, family: Family, variant: str) -> None:
    """MethodUnusable for what no file could make good."""
    if reason := refuse_places(family, variant):
        raise MethodUnusable(reason)
    if request.source.is_dir():
        raise MethodUnusable(
            f"{request.source} is a folder: name the file in it ({_list_files(request.source)})"
        )


def _list_files(folder: Path) -> str:
    names = [path.name for path in folder.iterdir() if path.suffix in (".safetensors", ".bin")]
    return ", ".join(sorted(names)[:4]) or "it has no .safetensors and no .bin"


def _redirect_kind(source: str, kind: ImageAdapterKind) -> str:
    method = ELSEWHERE.get(kind, "ip_adapter")
    return f"{source} is a file of {kind}: the method {method!r} reads it"
