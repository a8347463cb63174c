"""What a configuration asks of a model that the chosen variant cannot do."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from frisket.media.manifest import is_manifest
from frisket.recipes.config import Config
from frisket.recipes.origin import Key

if TYPE_CHECKING:
    from frisket.families.base import Family, Variant


def variant_problems(config: Config, family: "Family") -> Iterator[tuple[Key, str]]:
    """Key and sentence of everything the variant cannot do."""
    name = config.model.variant or next(iter(family.variants))
    variant = family.variants[name]
    said = f"{family.name} {name}"
    asked = config.model.experts
    if asked != "both" and asked not in variant.experts:
        yield (
            ("model", "experts"),
            f"{said} is one denoiser, it has no {asked} expert; leave model.experts out",
        )
    kind = config.memory.quantise
    if kind != "none" and not variant.quantises:
        yield ("memory", "quantise"), f"{said} is not quantised; leave memory.quantise out"
    yield from _data_problems(config, variant, said)
    try:
        family.objective(
            name, weighting=config.timesteps.weighting, min_snr=config.timesteps.min_snr
        )
    except ValueError as error:
        yield ("timesteps",), str(error)


def _data_problems(config: Config, variant: "Variant", said: str) -> Iterator[tuple[Key, str]]:
    for number, data in enumerate(config.data):
        pictures = variant.sees == "pictures"
        if pictures and data.references is None and not is_manifest(data.clips):
            yield (
                ("data", number, "references"),
                f"{said} edits pictures: give `references`, the folder of what it starts from"
                " (name.png for each clip)",
            )
        if data.references is not None and not pictures:
            yield (
                ("data", number, "references"),
                f"{said} looks at no reference pictures; leave `references` out",
            )
        if data.mask_role != "loss" and variant.sees != "first_frame":
            yield (
                ("data", number, "mask_role"),
                f'{said} has no mask channels of its own; use mask_role = "loss", or an'
                " image-to-video variant",
            )
        if data.mask_role != "loss" and data.masks.source == "none":
            yield (
                ("data", number, "mask_role"),
                "a mask cannot be a condition where there is none: give `masks`",
            )
