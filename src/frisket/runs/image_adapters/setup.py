"""The image adapter of a configuration: built for a denoiser, refused before any work, shown."""

from dataclasses import replace
from typing import Any, cast

import torch
from diffusers import ControlNetModel
from torch import nn

from frisket.adapters.image.adapter import ImageAdapterModules, install_adapter
from frisket.adapters.image.face_maps import ReferenceSizes
from frisket.adapters.image.files import read_image_adapter
from frisket.adapters.image.instantid import (
    NET,
    InstantIdModules,
    compare_nets,
    find_adapter,
    read_identity_net,
)
from frisket.adapters.image.layouts import ImageAdapterFile
from frisket.adapters.image.numbering import number_layers
from frisket.adapters.image.start import (
    TOKENS,
    UNET_KINDS,
    StartSizes,
    check_file,
    is_unet,
    refuse_transformer,
    resume_image_adapter,
    split_words,
    start_image_adapter,
)
from frisket.adapters.spec import AdapterMismatch
from frisket.adapters.targets import unwrap_model
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.faces.base import EmbeddingMixup
from frisket.families.base import FAMILIES, Family, WeightsNotFound
from frisket.inference.methods.identity.unets import find_unet
from frisket.inference.methods.identity.uniid.reading import check_network
from frisket.runs.card import variant_of
from frisket.runs.image_adapters.branches import connect_branches
from frisket.runs.image_adapters.readers import measure_reference
from frisket.runs.image_adapters.references import find_region
from frisket.runs.prepare import source_of


def is_image_adapter_run(config: Config) -> bool:
    """Whether that is what a run trains."""
    return config.model.train == "image_adapter"


def check_image_adapter(config: Config) -> None:
    """Refuse an image adapter that this model, encoder or file has no place for; before any work.

    ConfigError names the option and the fix. Looks at headers and configs alone.
    """
    if not is_image_adapter_run(config):
        return
    family, options = FAMILIES.load(config.model.family), config.image_adapter
    variant = variant_of(config)
    denoiser = family.tiny(variant).denoiser
    assert denoiser is not None
    try:
        numbers = number_layers(family, denoiser)
        if options.kind in UNET_KINDS:
            refuse_transformer(options.kind, numbers)
    except AdapterMismatch as error:
        raise ConfigError(
            f'model.train = "image_adapter": {family.name} {variant}: {error}; train a LoRA, or'
            " choose another model (`frisket methods` lists who takes image adapters)"
        ) from error
    if is_unet(numbers):
        _refuse_for_unet(config)
    if options.kind == "instantid" and family.variants[variant].video:
        raise ConfigError(
            f'image_adapter.kind = "instantid": {family.name} {variant} makes clips, and a picture'
            " of key points is of one frame; choose a model of pictures"
        )
    if options.kind == "uniid-text":
        _check_words(config, family)
    sizes = measure_reference(config)
    if options.source is None:
        return
    try:
        file = _read_source(config)
        check_file(options.kind, family.name, file, sizes.reads)
        _check_maps(config, file, sizes)
        if options.kind == "instantid":
            read_identity_net(options.source / NET)
    except (AdapterMismatch, EmbeddingMixup, FileNotFoundError) as error:
        raise ConfigError(f"image_adapter.source: {options.source}: {error}") from error


def _check_words(config: Config, family: Family) -> None:
    """ConfigError where a model's text is too narrow for UniID's words, if its shape is known."""
    try:
        denoiser = family.load_denoiser(replace(source_of(config, family), device="meta"))
    except WeightsNotFound:
        return
    width: Any = unwrap_model(denoiser).config.cross_attention_dim  # type: ignore[union-attr]
    try:
        split_words(width)
    except AdapterMismatch as error:
        raise ConfigError(
            f'image_adapter.kind = "uniid-text": {error}; train kind = "uniid-adapter", or another'
            " model"
        ) from error


def _read_source(config: Config) -> ImageAdapterFile:
    """The file to go on from, of InstantID that in its folder; raises as `read_image_adapter`."""
    options = config.image_adapter
    assert options.source is not None
    path = options.source
    if options.kind == "instantid":
        if not path.is_dir():
            raise AdapterMismatch(f"it is no folder; InstantID's has ip-adapter.bin and {NET}/")
        path = find_adapter(path)
    elif options.kind in UNET_KINDS and not path.is_dir():
        raise AdapterMismatch("it is no folder; a branch of UniID is one, with pytorch_model.bin")
    return read_image_adapter(path, options.kind)


def _check_maps(config: Config, file: ImageAdapterFile, sizes: ReferenceSizes) -> None:
    """EmbeddingMixup where a branch of UniID was trained with a network of other widths."""
    if sizes.maps and config.image_adapter.source is not None:
        maps = [torch.empty(1, *shape, device="meta") for shape in sizes.maps]
        embeddings = torch.empty(1, sizes.reads[-1], device="meta")
        check_network(config.image_adapter.source, file, embeddings, maps)


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
    config: Config, family: Family, denoiser: nn.Module, sizes: ReferenceSizes | None = None
) -> ImageAdapterModules:
    """Put the configured adapter on a loaded denoiser: fresh, or from its file.

    `sizes` is the shape of what is read of a picture, measured where it is not known yet
    (`measure_reference`). AdapterMismatch names the file, or the model, and what does not fit.
    """
    options, sizes = config.image_adapter, sizes or measure_reference(config)
    if options.source is None:
        spatial = family.variants[variant_of(config)].grid.spatial
        start = StartSizes(sizes.reads, options.tokens, options.width, sizes.maps, spatial)
        adapter = start_image_adapter(options.kind, family, denoiser, start, seed=config.run.seed)
    else:
        try:
            adapter = _resume_source(config, family, denoiser, sizes)
        except (AdapterMismatch, EmbeddingMixup) as error:
            raise AdapterMismatch(f"{options.source}: {error}") from error
    install_adapter(denoiser, adapter)
    if adapter.identity_net is not None and config.memory.checkpointing:
        cast(ControlNetModel, adapter.identity_net).enable_gradient_checkpointing()
    return adapter


def _resume_source(
    config: Config, family: Family, denoiser: nn.Module, sizes: ReferenceSizes
) -> ImageAdapterModules:
    """The adapter of the configured file or folder, checked against the denoiser."""
    options, file = config.image_adapter, _read_source(config)
    assert options.source is not None
    adapter = resume_image_adapter(options.kind, family, denoiser, file, sizes.reads)
    if sizes.maps:
        _check_maps(config, file, sizes)
        adapter.sizes = sizes
    if options.kind != "instantid":
        return adapter
    net, unet = read_identity_net(options.source / NET), find_unet(unwrap_model(denoiser))
    assert unet is not None
    if misfit := compare_nets(net, unet):
        raise AdapterMismatch(f"it was made for another model: {misfit}")
    InstantIdModules(adapter, net)  # refuses tokens of another width
    adapter.identity_net = net
    return adapter


def describe_adapter(config: Config) -> str:
    """What is trained and what it is shown, in a line of the banner."""
    options, region = config.image_adapter, find_region(config)
    whose = {"self": "the clip's own picture", "other": "a picture of another clip"}
    part = f"{region} alone, on grey" if region else "whole"
    if options.kind in ("faceid", *UNET_KINDS):
        part = f"the face in {region}" if region else "the largest face"
    start = f", from {options.source.name}" if options.source is not None else ""
    place = ", within the masks" if options.confine else ""
    picture = f"{whose[options.references]} ({part})"
    return (
        f"an image adapter ({options.kind}{start}) that is shown {picture}, nothing in"
        f" {options.dropout:.0%} of the draws{place}; no LoRA"
    )


def rehearse_rows(
    config: Config, family: Family, denoiser: nn.Module, sizes: ReferenceSizes
) -> None:
    """Show an adapter on the meta device pictures without content: for foretelling memory."""
    count = config.run.batch
    blank = torch.empty(sizes.row, device="meta")

    def draw_nothing(height: int, width: int) -> torch.Tensor:
        return torch.empty(count, 3, height, width, device="meta")

    connect_branches(family, denoiser).set_rows([blank] * count, None, draw_nothing)
