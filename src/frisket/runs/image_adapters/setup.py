"""The image adapter of a configuration: built for a denoiser, refused before any work, shown."""

from pathlib import Path

import torch
from torch import nn

from frisket.adapters.image.adapter import ImageAdapterModules, find_image_adapter, install_adapter
from frisket.adapters.image.files import read_image_adapter, write_image_adapter
from frisket.adapters.image.numbering import list_places, number_layers
from frisket.adapters.image.start import (
    TOKENS,
    StartSizes,
    check_file,
    is_unet,
    resume_image_adapter,
    start_image_adapter,
)
from frisket.adapters.spec import AdapterMismatch
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Family
from frisket.inference.methods.identity import image_attention
from frisket.inference.methods.identity.image_attention import ImageAttention
from frisket.inference.methods.identity.token_layers import name_layers
from frisket.runs.card import variant_of
from frisket.runs.image_adapters.branches import connect_branches
from frisket.runs.image_adapters.readers import measure_reference
from frisket.runs.image_adapters.references import ReferenceSet, find_region

FILE = "image_adapter.safetensors"  # in the folder of a run, and in its checkpoints


def is_image_adapter_run(config: Config) -> bool:
    """Whether that is what a run trains."""
    return config.model.train == "image_adapter"


def check_image_adapter(config: Config) -> None:
    """Refuse an image adapter that this model, encoder or file has no place for; before any work.

    ConfigError names the option and the fix. Opens what reads
    pictures, or its config, for the sizes; no clip and no denoiser.
    """
    if not is_image_adapter_run(config):
        return
    family, options = FAMILIES.load(config.model.family), config.image_adapter
    variant = variant_of(config)
    denoiser = family.tiny(variant).denoiser
    assert denoiser is not None
    try:
        numbers = number_layers(family, denoiser)
    except AdapterMismatch as error:
        raise ConfigError(
            f'model.train = "image_adapter": {family.name} {variant}: {error}; train a LoRA, or'
            " choose another model (`frisket methods` lists who takes image adapters)"
        ) from error
    if is_unet(numbers):
        _refuse_for_unet(config)
    reads = measure_reference(config)
    if options.source is None:
        return
    try:
        file = read_image_adapter(options.source, options.kind)
        check_file(options.kind, family.name, file, reads)
    except (AdapterMismatch, FileNotFoundError) as error:
        raise ConfigError(f"image_adapter.source: {options.source}: {error}") from error


def _refuse_for_unet(config: Config) -> None:
    """ConfigError for options that only transformers have a choice in."""
    options = config.image_adapter
    if options.width is not None:
        raise ConfigError(
            f"`image_adapter.width` = {options.width} is for transformers: a UNet reads tokens as"
            " wide as its text; leave it out"
        )
    if options.kind in ("base", "faceid") and options.tokens not in (None, TOKENS["base"]):
        raise ConfigError(
            f"`image_adapter.tokens` = {options.tokens}: readers of a UNet's adapters take"
            f" {TOKENS['base']} for granted in files of this kind; leave it out, or set"
            ' image_adapter.kind = "plus"'
        )
    if config.memory.quantise != "none":
        raise ConfigError(
            f"`memory.quantise` = {config.memory.quantise!r}: a UNet's adapter begins with copies"
            " of the text's keys and values, which quantised weights do not give; leave it out"
        )


def attach_image_adapter(
    config: Config, family: Family, denoiser: nn.Module, reads: tuple[int, ...] | None = None
) -> ImageAdapterModules:
    """Put the configured adapter on a loaded denoiser: fresh, or from its file.

    `reads` is the shape of what is read of a picture, measured where it is not known yet
    (`measure_reference`). AdapterMismatch names the file, or the model, and what does not fit.
    """
    options, reads = config.image_adapter, reads or measure_reference(config)
    if options.source is None:
        start = StartSizes(reads, options.tokens, options.width)
        adapter = start_image_adapter(options.kind, family, denoiser, start, seed=config.run.seed)
    else:
        file = read_image_adapter(options.source, options.kind)
        try:
            adapter = resume_image_adapter(options.kind, family, denoiser, file, reads)
        except AdapterMismatch as error:
            raise AdapterMismatch(f"{options.source}: {error}") from error
    install_adapter(denoiser, adapter)
    return adapter


def describe_adapter(config: Config) -> str:
    """What is trained and what it is shown, in a line of the banner."""
    options, region = config.image_adapter, find_region(config)
    whose = {"self": "the clip's own picture", "other": "a picture of another clip"}
    part = f"{region} alone, on grey" if region else "whole"
    start = f", from {options.source.name}" if options.source is not None else ""
    place = ", within the masks" if options.confine else ""
    picture = f"{whose[options.references]} ({part})"
    return (
        f"an image adapter ({options.kind}{start}) that is shown {picture}, nothing in"
        f" {options.dropout:.0%} of the draws{place}; no LoRA"
    )


def rehearse_rows(
    config: Config, family: Family, denoiser: nn.Module, reads: tuple[int, ...]
) -> None:
    """Show an adapter on the meta device pictures without content: for foretelling memory."""
    blank = torch.empty(reads, device="meta")
    connect_branches(family, denoiser).set_rows([blank] * config.run.batch)


@torch.no_grad()
def make_sampling_method(
    family: Family, denoiser: nn.Module, references: ReferenceSet
) -> ImageAttention:
    """The adapter as it is now, for sampling: the first clip's reference, against no picture."""
    adapter = find_image_adapter(denoiser)
    assert adapter is not None
    numbers = number_layers(family, denoiser)
    weight = next(adapter.parameters())
    embedding, blank = references.show_first(), references.blank[None]
    layers = name_layers(adapter.ip_adapter, numbers)
    sampled = image_attention.ImageAdapter(
        keys=layers.keys,
        values=layers.values,
        tokens=adapter.image_proj(embedding.to(weight)),
        negative=adapter.image_proj(blank.to(weight)),
    )
    return ImageAttention(list(list_places(family, denoiser).values()), [sampled])


def save_image_adapter(denoiser: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the adapter on a denoiser in the public layout (UNets), or ours with the same names."""
    adapter = find_image_adapter(denoiser)
    assert adapter is not None
    write_image_adapter(path, adapter.to_file(), metadata)
