"""Which model an adapter file was made for: by its metadata, ours and other trainers'."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from frisket.adapters.attach import outputs_of
from frisket.adapters.metadata import UnreadableMetadata, entry, show_text
from frisket.config.provenance import ConfigError
from frisket.families.base import FAMILIES, Family, layer_names
from frisket.families.experts import first
from frisket.families.key_map import Names


@dataclass(frozen=True, slots=True)
class AdapterBase:
    """The model of an adapter file, as far as it is known."""

    family: str
    variant: str = ""
    named_by: str = ""  # the metadata key, or the option

    def load_family(self) -> Family:
        """The family; ConfigError where there is none of that name."""
        if self.family not in (known := FAMILIES.names()):
            raise ConfigError(
                f"no family is named {self.family!r} ({self.named_by}); there are:"
                f" {', '.join(known)}"
            )
        return FAMILIES.load(self.family)

    def choose_variant(self) -> str:
        """The variant, or the family's first."""
        family = self.load_family()
        if self.variant and self.variant not in family.variants:
            known = ", ".join(family.variants)
            raise ConfigError(f"{self.family} has no variant {self.variant!r}; there are: {known}")
        return self.variant or family.default

    def names(self) -> Names:
        """The table of the variant."""
        return layer_names(self.load_family(), self.choose_variant())

    def layers(self) -> tuple[str, ...]:
        """Layers of the tiny model, which are those of the real one but for the number of blocks.

        Empty where the family's table says them all.
        """
        if self.names().rows:
            return ()
        denoiser = self.load_family().tiny(self.choose_variant()).denoiser
        assert denoiser is not None
        return tuple(outputs_of(first(denoiser)))

    def __str__(self) -> str:
        return f"{self.family} {self.variant}".strip() + (
            f" ({self.named_by})" if self.named_by else ""
        )


def base_of(metadata: Mapping[str, str], family: str = "", variant: str = "") -> AdapterBase | None:
    """The model a file names, or the one asked for; None where neither says.

    ConfigError where the file's own entry is damaged and nothing is asked for.
    """
    try:
        base = next(_read_bases(metadata), None)
    except UnreadableMetadata as error:
        if not family:
            raise ConfigError(f"{error}; say which model it is for: --family") from error
        base = None
    if family:
        same = base is not None and base.family == family
        return AdapterBase(family, variant or (base.variant if base and same else ""), "--family")
    if base is None:
        return None
    return AdapterBase(base.family, variant, "--variant") if variant else base


def base_in(
    path: Path, metadata: Mapping[str, str], family: str = "", variant: str = ""
) -> AdapterBase | None:
    """As `base_of`, and a family and variant that there are; the file's name is in the error."""
    try:
        base = base_of(metadata, family, variant)
        if base is not None:
            base.choose_variant()
        return base
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def names_base(metadata: Mapping[str, str]) -> bool:
    """Whether Frisket's own entry is there and can be read."""
    try:
        return own_base(metadata) is not None
    except UnreadableMetadata:
        return False


def need_base(path: Path, base: AdapterBase | None) -> AdapterBase:
    """The base, or a ConfigError that asks for it."""
    if base is None:
        raise ConfigError(
            f"{path} does not say which model it is for; say it: --family, one of"
            f" {', '.join(FAMILIES.names())}"
        )
    return base


def own_base(metadata: Mapping[str, str]) -> dict[str, str] | None:
    """What Frisket wrote of the base, family and variant; None where nothing is said of it.

    Unreadable for an entry that Frisket did not write so.
    """
    ours = entry(metadata, "frisket.base")
    if not ours:
        return None
    words = {key: ours.get(key, "") for key in ("family", "variant")}
    if not words["family"] or not all(isinstance(word, str) for word in words.values()):
        raise UnreadableMetadata("its metadata entry frisket.base names no family and variant")
    return {key: show_text(word, 60) for key, word in words.items()}


def family_of(word: str) -> tuple[str, str] | None:
    """Family and variant (where its layers have names of their own) of another trainer's word.

    Of the families' aliases the longest that the word begins with counts, and a number at its end
    must end there: qwen-image-2512 is no qwen-image-2. Imports every family.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", word.lower())
    fits = [row for row in _aliases() if re.match(rf"{re.escape(row[0])}(?!(?<=\d)\d)", plain)]
    return max(fits, key=lambda row: len(row[0]))[1:] if fits else None


def _aliases() -> Iterator[tuple[str, str, str]]:
    """Alias, family and variant; the variant is empty where the alias is the family's."""
    for name in FAMILIES.names():
        family = FAMILIES.load(name)
        for alias in family.aliases:
            yield alias, name, ""
        for variant, card in family.variants.items():
            for alias in card.aliases:
                yield alias, name, variant


def _read_bases(metadata: Mapping[str, str]) -> Iterator[AdapterBase]:
    ours = own_base(metadata)
    if ours:
        yield AdapterBase(ours["family"], ours["variant"], "frisket.base")
    for key in ("modelspec.architecture", "ss_base_model_version"):
        word = metadata.get(key, "").removesuffix("/lora")
        if not word:
            continue
        known = family_of(word)
        named_by = f"{key} = {show_text(word, 60)}"
        for name in FAMILIES.names():
            cards = FAMILIES.load(name).variants.items()
            like = [key for key, card in cards if card.architecture.lower() == word.lower()]
            if like:  # several may share the word: then no file says which
                hint = known[1] if known is not None and known[1] in like else ""
                yield AdapterBase(name, like[0] if len(like) == 1 else hint, named_by)
        if known is not None:
            yield AdapterBase(*known, named_by)
