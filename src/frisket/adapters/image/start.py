"""New image adapters for a denoiser: sizes that fit it, and weights that do not disturb it."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from frisket.adapters.image.adapter import ImageAdapterModules
from frisket.adapters.image.attention import KeyValue, KeyValues, make_key_values
from frisket.adapters.image.layouts import ImageAdapterFile
from frisket.adapters.image.numbering import list_places, number_layers
from frisket.adapters.image.perceiver import HEAD
from frisket.adapters.image.projections import (
    FaceProjection,
    ImageProjection,
    PooledProjection,
    ResamplerProjection,
    TokenwiseProjection,
)
from frisket.adapters.spec import AdapterMismatch
from frisket.adapters.targets import unwrap_model
from frisket.families.base import Family

TrainedKind = Literal["base", "plus", "full", "faceid"]
WIDTH = 1024  # channels of a transformer's token where nobody says
TOKENS = {"base": 4, "plus": 16, "faceid": 4}  # as the public files have
HIDDEN = 1280  # widest resampler of the public files


@dataclass(frozen=True, slots=True)
class StartSizes:
    """What a new adapter is as large as; None is the usual number of its kind and model.

    `reads` is the shape of what it reads of a picture: of an embedding its width, of patches their
    number and width.
    """

    reads: tuple[int, ...]
    tokens: int | None = None
    width: int | None = None


def start_image_adapter(
    kind: TrainedKind, family: Family, denoiser: nn.Module, sizes: StartSizes, *, seed: int
) -> ImageAdapterModules:
    """A new adapter for a loaded denoiser; its random weights are a function of `seed`.

    Of a UNet keys and values begin as the text's own, as the authors begin their training: the
    model answers to the picture from the first step. Of a transformer, whose text is projected
    elsewhere, values begin at 0: the model is the base until it has learnt. AdapterMismatch for a
    model without a place, or whose texts have several widths.
    """
    numbers = number_layers(family, denoiser)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if is_unet(numbers):
            layers = make_key_values(unwrap_model(denoiser))
            width = next(iter(_list_layers(layers))).to_k_ip.in_features
            projection = _build_projection(kind, sizes, width)
            return ImageAdapterModules(kind, projection, layers)
        inner = measure_layers(family, denoiser)
        width = sizes.width or min(WIDTH, *inner.values())
        layers = KeyValues(width, inner)
        for layer in _list_layers(layers):
            nn.init.zeros_(layer.to_v_ip.weight)
        projection = _build_projection(kind, sizes, width)
    return ImageAdapterModules(kind, projection, layers, family=family.name)


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
    if (widths := dict(zip(file.numbers, file.inner, strict=True))) != inner:
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


def _build_projection(kind: TrainedKind, sizes: StartSizes, width: int) -> ImageProjection:
    reads, tokens = sizes.reads, sizes.tokens or TOKENS.get(kind, 0)
    if kind == "base":
        return PooledProjection(reads[-1], width, tokens)
    if kind == "faceid":
        return FaceProjection(reads[-1], width, tokens)
    if kind == "full":
        return TokenwiseProjection(reads[-1], width, reads[0])
    hidden = max(HEAD, min(HIDDEN, width) // HEAD * HEAD)
    return ResamplerProjection(reads[-1], width, tokens=tokens, hidden=hidden, inner=hidden)


def _list_layers(layers: KeyValues) -> list[KeyValue]:
    return [layer for layer in layers.values() if isinstance(layer, KeyValue)]
