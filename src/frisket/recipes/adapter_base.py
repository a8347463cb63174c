"""Which model an adapter file was made for: by its metadata, ours and other trainers'."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from frisket.adapters.attach import outputs_of
from frisket.families.base import FAMILIES, Family, layer_names
from frisket.families.experts import first
from frisket.families.names import Names
from frisket.recipes.origin import ConfigError

# How ss_base_model_version and modelspec.architecture begin in other trainers' files, and whose
# they are: the family, and the variant where its layers have names of their own.
WORDS = (
    ("flux-2", "flux2", ""),
    ("flux2", "flux2", ""),
    ("flux", "flux", ""),
    ("sdxl", "stable_diffusion", "sdxl"),
    ("stable-diffusion-xl", "stable_diffusion", "sdxl"),
    ("sd-v1", "stable_diffusion", "sd15"),
    ("sd-1", "stable_diffusion", "sd15"),
    ("sd1", "stable_diffusion", "sd15"),
    ("stable-diffusion-v1", "stable_diffusion", "sd15"),
    ("sd3", "sd3", ""),
    ("stable-diffusion-3", "sd3", ""),
    ("wan", "wan", ""),
    ("qwen-image-2", "qwen_image_21", ""),
    ("qwen", "qwen_image", ""),
    ("hunyuan-video", "hunyuan_video", ""),
    ("hunyuanvideo", "hunyuan_video", ""),
    ("z-image", "z_image", ""),
    ("zimage", "z_image", ""),
)


@dataclass(frozen=True, slots=True)
class AdapterBase:
    """The model of an adapter file, as far as it is known."""

    family: str
    variant: str = ""
    said_by: str = ""  # the metadata key, or the option

    def loaded(self) -> Family:
        """The family; ConfigError where there is none of that name."""
        if self.family not in (known := FAMILIES.names()):
            raise ConfigError(
                f"no family is named {self.family!r} ({self.said_by}); there are:"
                f" {', '.join(known)}"
            )
        return FAMILIES.load(self.family)

    def chosen(self) -> str:
        """The variant, or the family's first."""
        variants = self.loaded().variants
        if self.variant and self.variant not in variants:
            raise ConfigError(
                f"{self.family} has no variant {self.variant!r}; there are: {', '.join(variants)}"
            )
        return self.variant or next(iter(variants))

    def names(self) -> Names:
        """The table of the variant."""
        return layer_names(self.loaded(), self.chosen())

    def layers(self) -> tuple[str, ...]:
        """Layers of the tiny model, which are those of the real one but for the number of blocks.

        Empty where the family's table says them all.
        """
        if self.names().rows:
            return ()
        denoiser = self.loaded().tiny(self.chosen()).denoiser
        assert denoiser is not None
        return tuple(outputs_of(first(denoiser)))

    def __str__(self) -> str:
        """In words."""
        return f"{self.family} {self.variant}".strip() + (
            f" ({self.said_by})" if self.said_by else ""
        )


def base_of(metadata: Mapping[str, str], family: str = "", variant: str = "") -> AdapterBase | None:
    """The model a file names, or the one asked for; None where neither says."""
    found = next(_said(metadata), None)
    if family:
        same = found is not None and found.family == family
        return AdapterBase(family, variant or (found.variant if found and same else ""), "--family")
    if found is None:
        return None
    return AdapterBase(found.family, variant, "--variant") if variant else found


def need_base(path: Path, base: AdapterBase | None) -> AdapterBase:
    """The base, or a ConfigError that asks for it."""
    if base is None:
        raise ConfigError(
            f"{path} does not say which model it is for; say it: --family, one of"
            f" {', '.join(FAMILIES.names())}"
        )
    return base


def _said(metadata: Mapping[str, str]) -> Iterator[AdapterBase]:
    ours = json.loads(metadata.get("frisket.base", "{}"))
    if ours:
        yield AdapterBase(ours["family"], ours["variant"], "frisket.base")
    for key in ("modelspec.architecture", "ss_base_model_version"):
        word = metadata.get(key, "").removesuffix("/lora")
        if not word:
            continue
        plain = word.lower().replace("_", "-").replace(".", "-")
        known = [(family, variant) for start, family, variant in WORDS if plain.startswith(start)]
        hints = [variant for _, variant in known]
        for name in FAMILIES.names():
            cards = FAMILIES.load(name).variants.items()
            like = [key for key, card in cards if card.architecture.lower() == word.lower()]
            if like:  # several may share the word: then no file says which
                variant = like[0] if len(like) == 1 else next(iter({*like} & {*hints}), "")
                yield AdapterBase(name, variant, f"{key} = {word}")
        for family, variant in known:
            yield AdapterBase(family, variant, f"{key} = {word}")
