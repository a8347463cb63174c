"""Phrases to soft masks by the diffusion model's own attention: no other model is needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.attention.capture import capture, choose_layers
from frisket.attention.maps import average, compare_phrases
from frisket.attention.tokens import PhraseCut, locate
from frisket.families.base import FAMILIES, Family, Parts, Source, Variant, WeightsNotFound
from frisket.families.experts import Experts, experts_of
from frisket.maskgen.base import (
    Backend,
    BackendUnusable,
    Licence,
    MaskWeightsNotFound,
    ModelSource,
    RgbPicture,
    Segment,
)
from frisket.maskgen.vision.attention_planes import find_cut, soften_map
from frisket.maskgen.vision.preprocess import enlarge
from frisket.registry import UnknownPlugin

PACKAGED = "packaged with frisket"  # where no source is given
PHRASES = "{phrases}"  # in the prompt, where they go
SEPARATION = 0.4
UNSURE_SCORE = 0.45  # score of every mask, below the half from which none is to be looked at
SEED = 0  # of the noise, the same for every picture


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """Which model is asked, and how; docs/attend.md says what each is good for."""

    family: str = "pocket"
    variant: str = ""
    prompt: str = PHRASES
    layers: tuple[str, ...] = ("all",)
    t: tuple[float, ...] = (0.25, 0.5)
    draws: int = 2  # of noise at each t
    form: Any = "attention"
    softmax: Any = "all"


@dataclass(slots=True)
class AttentionGrounder:
    """Grounder that knows no instances: one soft mask a phrase, of all that is so called.

    The picture is encoded and noised at each t; the denoiser predicts under a prompt of the
    phrases, and what the cells attend to is averaged over layers, levels and draws. Each phrase's
    map is cut where it divides best (Otsu), which becomes one half in the mask. A map of which that
    cut explains less than the threshold `separation` gives no mask. That a phrase is in the picture
    no map tells, for something is always looked at most: every mask is one to be looked at.
    """

    family: Family
    parts: Parts
    tokenizer: Any
    source: Source
    options: AttentionOptions = field(default_factory=AttentionOptions)
    separation: float = SEPARATION

    def ground(
        self, pictures: Sequence[RgbPicture], phrases: Sequence[Sequence[str]]
    ) -> list[list[Segment]]:
        """One list of segments a picture; BackendUnusable for a phrase the model does not read."""
        return [
            self._ground_picture(picture, list(picture_phrases)) if picture_phrases else []
            for picture, picture_phrases in zip(pictures, phrases, strict=True)
        ]

    def _ground_picture(self, picture: RgbPicture, phrases: Sequence[str]) -> list[Segment]:
        maps = self.read_maps(picture, phrases)
        segments = []
        for phrase, plane in zip(
            phrases, enlarge(maps[:, 0], picture.shape[0], picture.shape[1]), strict=True
        ):
            cut = find_cut(plane)
            if cut.separation >= self.separation:
                segments.append(
                    Segment(soften_map(plane, cut.threshold), UNSURE_SCORE, phrase=phrase)
                )
        return segments

    @torch.no_grad()
    def read_maps(self, picture: RgbPicture, phrases: Sequence[str]) -> Float[Tensor, "T f h w"]:
        """Each phrase's attention on the latent grid of the picture, float32 on the CPU."""
        prompt = self.options.prompt.replace(PHRASES, " and ".join(phrases))
        (spans,) = self.family.read_spans(self.tokenizer, [prompt])
        try:
            positions = [locate(spans, prompt, phrase) for phrase in phrases]
        except PhraseCut as error:
            raise BackendUnusable(f"attention: {error}") from error
        vae, text, denoiser = self.parts.vae, self.parts.text, self.parts.denoiser
        assert vae is not None
        assert text is not None
        assert denoiser is not None
        device, dtype = self.source.device, self.source.dtype
        clip = _fit_picture(picture, self.family.variants[self.source.variant])
        clean = self.family.encode(vae, clip.to(device, dtype))
        conditioning = self.family.embed(text, [prompt])
        objective = self.family.objective(self.source.variant)
        generator = torch.Generator().manual_seed(SEED)
        frames, height, width = clean.shape[2:]
        maps = []
        for level in self.options.t:
            t = torch.full((1,), level, device=clean.device)
            layers = choose_layers(
                self.family.list_attention_layers(_pick_expert(denoiser, level)),
                self.options.layers,
            )
            for _ in range(self.options.draws):
                noise = torch.randn(clean.shape, generator=generator).to(clean)
                noisy, _target = objective.corrupt(clean, noise, t)
                with capture(
                    layers, [positions], form=self.options.form, softmax=self.options.softmax
                ) as captured:
                    self.family.predict(denoiser, noisy, t, conditioning)
                maps.append(average(captured.maps, (frames, height, width)))
        mean = torch.stack(maps).mean(0)
        return (compare_phrases(mean) if self.options.form == "output" else mean)[0].float().cpu()


def _pick_expert(denoiser: nn.Module, level: float) -> nn.Module:
    if isinstance(denoiser, Experts):
        return denoiser.experts[denoiser.find_name(torch.tensor([level]))]
    return denoiser


def _fit_picture(picture: RgbPicture, variant: Variant) -> Float[Tensor, "1 3 1 H W"]:
    """The picture at about the area that the model is made for, in [-1, 1]."""
    step, (high, wide) = variant.grid.step, picture.shape[:2]
    scale = (variant.height * variant.width / (high * wide)) ** 0.5
    size = [max(round(side * scale / step), 1) * step for side in (wide, high)]
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    fitted = torch.from_numpy(cv2.resize(picture.numpy(), size, interpolation=how))
    return fitted.permute(2, 0, 1)[None, :, None].float() / 127.5 - 1


def load(source: ModelSource) -> AttentionGrounder:
    """The model of the options' family; MaskWeightsNotFound and BackendUnusable say what lacks."""
    options = AttentionOptions(**_take_options(source.options))
    if PHRASES not in options.prompt:
        raise BackendUnusable(
            f"attention: the prompt {options.prompt!r} has no place for the phrases: write"
            f" {PHRASES}"
        )
    try:
        family = FAMILIES.load(options.family)
    except UnknownPlugin as error:
        raise BackendUnusable(f"attention: {error}") from error
    variant = options.variant or family.default
    if variant not in family.variants:
        variant_names = ", ".join(family.variants)
        raise BackendUnusable(
            f"attention: {family.name} has no variant {variant!r}: {variant_names}"
        )
    card = family.variants[variant]
    if card.sees != "nothing":
        raise BackendUnusable(
            f"attention: {family.name} {variant} is shown pictures besides its prompt; take a"
            " variant of text alone"
        )
    path = "" if source.path in (PACKAGED, card.repo) else source.path
    model = Source(
        variant, path, revision=source.revision, dtype=source.dtype, device=source.device
    )
    return _load_parts(family, model, options)


def _load_parts(family: Family, model: Source, options: AttentionOptions) -> AttentionGrounder:
    try:
        denoiser = family.load_denoiser(model)
        for expert in experts_of(denoiser).values():
            layers = choose_layers(family.list_attention_layers(expert), options.layers)
            if options.form == "output" and any(layer.kind == "cross" for layer in layers):
                raise BackendUnusable(
                    f"attention: form output compares words and picture in one attention, and"
                    f" {layers[0].name} of {family.name} is cross-attention: take form attention"
                )
        parts = Parts(
            model.variant,
            family.load_vae(model).to(model.device),
            family.load_text(model).to(model.device),
            denoiser.eval(),
        )
        return AttentionGrounder(family, parts, family.load_tokenizer(model), model, options)
    except WeightsNotFound as error:
        raise MaskWeightsNotFound(f"attention: {error}") from error
    except BackendUnusable:
        raise
    except ValueError as error:
        raise BackendUnusable(f"attention: {error}") from error


def _take_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """As a section of the configuration has them; lists may come for tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }


BACKEND = Backend(
    summary="phrases to soft masks by a diffusion model's own attention; coarse, no other model",
    roles=frozenset({"grounder"}),
    licence=Licence(code="Apache-2.0", weights="those of the diffusion model"),
    load=load,
    repo=PACKAGED,
    weights=True,
    thresholds={"separation": SEPARATION},
)
