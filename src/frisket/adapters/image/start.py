"""New image adapters for a denoiser: sizes that fit it, and weights that do not disturb it."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from frisket.adapters.image.adapter import ImageAdapterModules
from frisket.adapters.image.attention import KeyValue, KeyValues, make_key_values
from frisket.adapters.image.face_maps import ReferenceSizes
from frisket.adapters.image.instantid import start_identity_net
from frisket.adapters.image.layouts import ImageAdapterFile
from frisket.adapters.image.numbering import list_places, number_layers
from frisket.adapters.image.perceiver import HEAD
from frisket.adapters.image.projections import (
    FaceProjection,
    FaceResamplerProjection,
    PooledProjection,
    ResamplerProjection,
    TokenwiseProjection,
)
from frisket.adapters.image.uniid import UniIdAdapterProjection, UniIdTextProjection
from frisket.adapters.spec import AdapterMismatch
from frisket.adapters.targets import unwrap_model
from frisket.families.base import Family

TrainedKind = Literal["base", "plus", "full", "faceid", "instantid", "uniid-text", "uniid-adapter"]
WIDTH = 1024  # channels of a transformer's token where nobody says
TOKENS = {  # as the public files have
    **{"base": 4, "plus": 16, "faceid": 4},
    **{"instantid": 16, "uniid-text": 3, "uniid-adapter": 25},
}
UNET_KINDS = ("instantid", "uniid-text", "uniid-adapter")  # that only UNets have a place for
HIDDEN = 1280  # widest resampler of the public files
UNIID_HIDDEN = 768  # of UniID's
WORD_SHARE = 0.375  # of SDXL's text that its first encoder has: 768 of 2048 channels


@dataclass(frozen=True, slots=True)
class StartSizes:
    """What a new adapter is as large as; None is the usual number of its kind and model.

    `reads` is the shape of what it reads of a picture: of an embedding its width, of patches their
    number and width; `maps` as in `ReferenceSizes`. `spatial` is how many pixels a latent cell has
    on a side.
    """

    reads: tuple[int, ...]
    tokens: int | None = None
    width: int | None = None
    maps: tuple[tuple[int, int, int], ...] = ()
    spatial: int = 8


def start_image_adapter(
    kind: TrainedKind, family: Family, denoiser: nn.Module, sizes: StartSizes, *, seed: int
) -> ImageAdapterModules:
    """A new adapter for a loaded denoiser; its random weights are a function of `seed`.

    Of a UNet keys and values begin as the text's own, as the authors begin their training: the
    model answers to the picture from the first step. Of a transformer, whose text is projected
    elsewhere, values begin at 0: the model is the base until it has learnt. InstantID's IdentityNet
    begins with residuals of 0, UniID's image tokens are 0 at first; its words act at once.
    AdapterMismatch for a model without a place, or whose texts have several widths.
    """
    numbers = number_layers(family, denoiser)
    if kind in UNET_KINDS:
        refuse_transformer(kind, numbers)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if is_unet(numbers):
            return _start_for_unet(kind, unwrap_model(denoiser), sizes)
        inner = measure_layers(family, denoiser)
        width = sizes.width or min(WIDTH, *inner.values())
        layers = KeyValues(width, inner)
        for layer in _list_layers(layers):
            nn.init.zeros_(layer.to_v_ip.weight)
        projection = _build_projection(kind, sizes, width)
    return ImageAdapterModules(kind, projection, layers, family=family.name)


def _start_for_unet(kind: TrainedKind, model: nn.Module, sizes: StartSizes) -> ImageAdapterModules:
    layers = make_key_values(model)
    width = next(iter(_list_layers(layers))).to_k_ip.in_features
    if kind == "uniid-text":
        layers = KeyValues(width, {})  # its tokens are among the prompt's
    adapter = ImageAdapterModules(kind, _build_projection(kind, sizes, width), layers)
    if kind == "instantid":
        adapter.identity_net = start_identity_net(model, sizes.spatial)
    if sizes.maps:
        adapter.sizes = ReferenceSizes(sizes.reads, sizes.maps)
    return adapter


def refuse_transformer(kind: TrainedKind, numbers: dict[int, str]) -> None:
    """AdapterMismatch for a kind that only UNets have a place for, where these are not a UNet's."""
    if not is_unet(numbers):
        raise AdapterMismatch(
            f"{kind} is for UNets (Stable Diffusion 1.5 and SDXL, pocket's), whose skip connections"
            " and cross-attention it joins, and this is a transformer"
        )


def resume_image_adapter(
    kind: TrainedKind,
    family: Family,
    denoiser: nn.Module,
    file: ImageAdapterFile,
    reads: tuple[int, ...],
) -> ImageAdapterModules:
    """The adapter of a file, checked against the denoiser and what it is to read from now on.

    AdapterMismatch says what does not fit.
    """
    check_file(kind, family.name, file, reads)
    inner = measure_layers(family, denoiser)
    if kind == "uniid-text":
        width: Any = unwrap_model(denoiser).config.cross_attention_dim  # type: ignore[union-attr]
        if sum(file.width) != width:
            raise AdapterMismatch(
                f"its words are {sum(file.width)} channels wide, and this model reads text of"
                f" {width}; it was made for another model"
            )
    elif (widths := dict(zip(file.numbers, file.inner, strict=True))) != inner:
        number = min(widths.items() ^ inner.items())[0]
        raise AdapterMismatch(
            f"its attention layer {number} has {widths.get(number, 'no')} channels, this model's"
            f" {inner.get(number, 'no')}; it was made for another model"
        )
    return ImageAdapterModules.from_file(file)


def check_file(
    kind: TrainedKind, family: str, file: ImageAdapterFile, reads: tuple[int, ...]
) -> None:
    """AdapterMismatch for a file of another kind, family or encoder; no model is needed."""
    if file.kind != kind:
        raise AdapterMismatch(f"it is {file.kind}; set image_adapter.kind to that, or leave it out")
    if file.family not in ("", family):
        raise AdapterMismatch(f"it was trained on {file.family}, and the model is {family}")
    if file.embedding != reads[-1]:
        raise AdapterMismatch(
            f"it reads {file.embedding} numbers of a picture, and the configured encoder gives"
            f" {reads[-1]}: take the one that it was trained with"
        )


def is_unet(numbers: dict[int, str]) -> bool:
    """Whether these are a UNet's numbers: those of self-attention, from 0 on, are left out."""
    return 0 not in numbers


def measure_layers(family: Family, denoiser: nn.Module) -> dict[int, int]:
    """Channels of the query of each layer that an adapter joins, by its number in files."""
    places = list_places(family, denoiser)
    inner = {}
    for number, name in number_layers(family, denoiser).items():
        attention: Any = places[name].module
        inner[number] = int(attention.to_q.out_features)
    return inner


def _build_projection(kind: TrainedKind, sizes: StartSizes, width: int) -> nn.Module:
    reads, tokens = sizes.reads, sizes.tokens or TOKENS.get(kind, 0)
    if sizes.maps:
        return _build_branch(kind, sizes, width, tokens)
    simple_kinds = {"base": PooledProjection, "faceid": FaceProjection}
    if kind in simple_kinds:
        return simple_kinds[kind](reads[-1], width, tokens)
    if kind == "full":
        return TokenwiseProjection(reads[-1], width, reads[0])
    resampler = FaceResamplerProjection if kind == "instantid" else ResamplerProjection
    hidden = _fit_hidden(HIDDEN, width)
    return resampler(reads[-1], width, tokens=tokens, hidden=hidden, inner=hidden)


def _build_branch(kind: TrainedKind, sizes: StartSizes, width: int, tokens: int) -> nn.Module:
    """One of UniID's branches."""
    if kind == "uniid-text":
        return _build_words(sizes, width, tokens)
    channels = [shape[0] for shape in sizes.maps]
    sources = (sum(channels[:-1]), channels[-1])
    hidden = _fit_hidden(UNIID_HIDDEN, width)
    return UniIdAdapterProjection(width, tokens=tokens, hidden=hidden, sources=sources)


def _fit_hidden(most: int, width: int) -> int:
    """Channels of a resampler for tokens of a width: whole heads, at least one."""
    return max(HEAD, min(most, width) // HEAD * HEAD)


def _build_words(sizes: StartSizes, width: int, tokens: int) -> UniIdTextProjection:
    """UniID's text branch: the prompt's channels shared out as SDXL's two encoders have them.

    AdapterMismatch where there are not two whole heads, or the network's last stage is not as wide
    as its embedding, which the branch takes for granted.
    """
    widths = split_words(width)
    (deep,) = sizes.maps
    if deep[0] != sizes.reads[-1]:
        raise AdapterMismatch(
            f"UniID's words read a last stage as wide as the embedding, and this network's have"
            f" {deep[0]} and {sizes.reads[-1]} channels"
        )
    return UniIdTextProjection(widths, tokens, sizes.reads[-1])


def split_words(width: int) -> tuple[int, int]:
    """How wide UniID's words are for each of two text encoders; AdapterMismatch as above."""
    first = max(HEAD, round(WORD_SHARE * width / HEAD) * HEAD)
    if width % HEAD or width <= first:
        raise AdapterMismatch(
            f"UniID's words are made of heads of {HEAD} channels for each of two text encoders, and"
            f" this model reads text of {width}"
        )
    return first, width - first


def _list_layers(layers: KeyValues) -> list[KeyValue]:
    return [layer for layer in layers.values() if isinstance(layer, KeyValue)]
