"""InstantID (arXiv 2401.07519) for sampling: a face's tokens in two places, and its key points."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from frisket.adapters.image.instantid import InstantIdModules, compare_nets
from frisket.adapters.image.numbering import list_places, number_layers
from frisket.adapters.spec import AdapterMismatch
from frisket.attention.base import AttentionLayer
from frisket.faces.base import FaceEmbedding
from frisket.families.base import Family, Parts
from frisket.inference.methods.identity.image_attention import (
    ImageAdapter,
    ImageAttention,
    make_row_finder,
)
from frisket.inference.methods.identity.instantid.control import FaceControl, ResidualSource
from frisket.inference.methods.identity.instantid.loading import place_modules
from frisket.inference.methods.identity.instantid.pose import Strokes, draw_pose
from frisket.inference.methods.identity.residuals import add_residuals
from frisket.inference.methods.identity.strict import StrictConfinement
from frisket.inference.methods.identity.token_layers import TokenLayers, find_misfit, name_layers
from frisket.inference.methods.identity.unets import find_unet
from frisket.inference.methods.plugin import ClipSize, MethodUnusable
from frisket.inference.sample_specs import SampleSpec
from frisket.shapes import Weights


@dataclass(frozen=True, slots=True)
class PosedFace:
    """A face as InstantID is shown it, its tokens made.

    `tokens` 1 t c and `negative` 1 t c are the projections of the raw embedding and of zeros;
    `keypoints` (x, y) lie in a picture of `size` pixels (height, width).
    """

    tokens: Float[Tensor, "1 t c"]
    negative: Float[Tensor, "1 t c"]
    keypoints: Float[Tensor, "5 2"]
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class InstantIdStrength:
    """How strong each half is and when: `attention` to the tokens, `identity_net`'s residuals.

    `start` and `end` are shares of the steps, of IdentityNet alone; `strokes` those of the key
    points' picture.
    """

    attention: float = 1.0
    identity_net: float = 1.0
    start: float = 0.0
    end: float = 1.0
    strokes: Strokes = "fixed"


@dataclass(frozen=True, slots=True)
class ReadInstantId:
    """InstantID with its files read and its face projected, before there is a denoiser."""

    modules: InstantIdModules
    face: PosedFace
    strength: InstantIdStrength
    masks: Mapping[ClipSize, Weights]
    strict: bool = False

    def build(self, family: Family, parts: Parts) -> "InstantIdMethod":
        """The method for a UNet; MethodUnusable where the files are another model's."""
        unet = find_unet(parts.denoiser)
        if unet is None:
            kind = type(parts.denoiser).__name__
            raise MethodUnusable(f"InstantID needs a UNet, and this denoiser is a {kind}")
        layers, net = self.modules.adapter.ip_adapter, self.modules.identity_net
        try:
            names = number_layers(family, unet)
            token_layers = name_layers(layers, names)
        except AdapterMismatch as error:
            raise MethodUnusable(f"these files of InstantID do not fit: {error}") from error
        if misfit := find_misfit(layers, names, unet) or compare_nets(net, unet):
            raise MethodUnusable(f"these files of InstantID were made for another model: {misfit}")
        weight = unet.conv_in.weight
        place_modules(self.modules, weight)
        return InstantIdMethod(
            unet=unet,
            modules=self.modules,
            places=tuple(list_places(family, unet).values()),
            layers=token_layers,
            face=self.face,
            strength=self.strength,
            masks=self.masks,
            strict=self.strict,
        )


@dataclass(eq=False, slots=True)
class InstantIdMethod:
    """InstantID on one UNet; a method of sampling that composes with others.

    Of strength 0, or with a mask of zeros, nothing is computed and the UNet is the bare one bit for
    bit. `places` are the layers that attend to the tokens.
    """

    unet: UNet2DConditionModel
    places: Sequence[AttentionLayer]
    layers: TokenLayers
    modules: InstantIdModules
    face: PosedFace
    strength: InstantIdStrength
    masks: Mapping[ClipSize, Weights]
    strict: bool = False

    @contextmanager
    def attach(
        self, pipeline: Any, call: Callable[[], dict[str, Any]], specs: Sequence[SampleSpec]
    ) -> Iterator[None]:
        """Inside, the face acts; ValueError for a size that no mask was laid for."""
        mask = self._find_mask(specs[0])
        is_silent = self.strength.attention == 0 == self.strength.identity_net
        acts = not is_silent and (mask is None or bool(mask.any()))
        attention, source = self.make_halves(call(), specs, mask)
        with ExitStack() as stack:
            stack.enter_context(add_residuals(self.unet, source.compute))
            if self.strict and mask is not None and acts:
                strict = StrictConfinement(self.unet, attention, mask)
                stack.enter_context(strict.attach(pipeline, call, specs))
            else:
                stack.enter_context(attention.attach(pipeline, call, specs))
            yield

    def make_halves(
        self,
        kwargs: Mapping[str, Any],
        specs: Sequence[SampleSpec],
        mask: Float[Tensor, "1 f h w"] | None = None,
    ) -> tuple[ImageAttention, ResidualSource]:
        """The two halves for one call of the pipeline with `kwargs`: attention, and residuals.

        Turning the attention (`ImageAttention.turn`) turns the residuals with it, so that guidance
        which makes passes of its own is of both.
        """
        adapter = ImageAdapter(
            self.layers.keys,
            self.layers.values,
            self.face.tokens,
            self.face.negative,
            scale=self.strength.attention,
            mask=mask,
        )
        attention = ImageAttention(self.places, [adapter])
        find_owners = make_row_finder(kwargs, specs)
        control = self._make_control(specs[0], mask)
        source = ResidualSource(
            self.modules.identity_net,
            control,
            find_owners,
            lambda: attention.side,
            steps=specs[0].steps,
        )
        return attention, source

    def _find_mask(self, spec: SampleSpec) -> Float[Tensor, "1 f h w"] | None:
        if not self.masks:
            return None
        size = (spec.frames, spec.height, spec.width)
        if size not in self.masks:
            raise ValueError(f"no mask was laid for samples of {size} frames and pixels")
        return self.masks[size][:, 0]

    def _make_control(self, spec: SampleSpec, mask: Tensor | None) -> FaceControl:
        strength, face = self.strength, self.face
        size = (spec.height, spec.width)
        return FaceControl(
            face.tokens,
            face.negative,
            draw_pose(face.keypoints, face.size, size, strength.strokes),
            scale=strength.identity_net,
            mask=mask,
            start=strength.start,
            end=strength.end,
        )


def average_faces(faces: Sequence[FaceEmbedding]) -> Float[Tensor, " d"]:
    """One raw embedding of several pictures of a person: their mean direction, at their mean norm.

    Of one face it is that face's (the authors know one alone). A mean of raw embeddings would be
    shorter than any of them, and InstantID reads lengths.
    """
    if len(faces) == 1:
        return faces[0].raw
    direction = functional.normalize(torch.stack([face.unit for face in faces]).mean(0), dim=-1)
    return direction * torch.stack([face.raw.float().norm() for face in faces]).mean()


@torch.no_grad()
def project_face(
    modules: InstantIdModules,
    raw: Float[Tensor, " d"],
    keypoints: Float[Tensor, "5 2"],
    size: tuple[int, int],
) -> PosedFace:
    """A face's raw embedding as tokens, with the key points its picture is drawn from.

    On the CPU, wherever the modules are: they may have been placed for an earlier call.
    """
    projection: Any = modules.adapter.image_proj
    embedding = raw[None].to(projection.latents)
    tokens, negative = projection(embedding), projection.project_negative(embedding)
    return PosedFace(tokens.cpu(), negative.cpu(), keypoints, size)


def scale_strength(strength: InstantIdStrength, scale: float) -> InstantIdStrength:
    """Both halves times one number; at 0 nothing is left of either."""
    return replace(
        strength, attention=scale * strength.attention, identity_net=scale * strength.identity_net
    )
