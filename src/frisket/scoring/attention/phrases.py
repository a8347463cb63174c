"""Which phrases are looked for, whose region each names, and where captions have them."""

from collections.abc import Sequence
from dataclasses import dataclass

from frisket.attention.base import Positions
from frisket.attention.tokens import PhraseNotFound, locate
from frisket.config.load import ConfigError
from frisket.config.regions import names_of
from frisket.config.tree import Config
from frisket.data.captions import add_trigger, apply_template, list_orders
from frisket.data.records import Clipset
from frisket.families.base import Family, Source
from frisket.masks.weights import BACKGROUND
from frisket.media.files import find
from frisket.registry import suggest
from frisket.runs.prepare import clipset_of


@dataclass(frozen=True, slots=True)
class RegionPhrase:
    """A phrase, and the region whose mask it is held against; "" is none."""

    phrase: str
    region: str = ""


def choose_phrases(config: Config, typed: Sequence[str]) -> tuple[RegionPhrase, ...]:
    """The phrases that were typed (`REGION=PHRASE`, or `PHRASE` alone), else those of [regions].

    Raises ConfigError for a region that the configuration has not, and where there is no phrase.
    """
    if not typed:
        phrases = tuple(RegionPhrase(phrase, region) for region, phrase in config.phrases.items())
        if not phrases:
            raise ConfigError(
                'no region has a phrase: give one, as in --phrase "subject=sks", or set it in the'
                ' config (regions.subject = { weight = 1.0, phrase = "sks" })'
            )
        return phrases
    region_names = [*names_of(config), BACKGROUND]
    phrases = tuple(_read_phrase(text, region_names) for text in typed)
    return tuple(dict.fromkeys(phrases))


def _read_phrase(text: str, region_names: Sequence[str]) -> RegionPhrase:
    region, equals, phrase = text.partition("=")
    region, phrase = (region.strip(), phrase.strip()) if equals else ("", text.strip())
    if not phrase:
        raise ConfigError(f"--phrase {text!r}: write REGION=PHRASE, as in subject=sks")
    if region and region not in region_names:
        raise ConfigError(
            f"--phrase {text!r}: no region {region!r}{suggest(region, list(region_names))}"
        )
    return RegionPhrase(phrase, region)


def locate_in_prompts(
    family: Family, source: Source, prompts: Sequence[str], phrases: Sequence[RegionPhrase]
) -> dict[str, tuple[Positions, ...]]:
    """Each prompt with the positions of every phrase; needs the tokenizers, no weights.

    A phrase need not be in every prompt, but in one of them: PhraseNotFound where it is in none.
    PhraseCut where a prompt has it and the model does not read it.
    """
    unique = list(dict.fromkeys(prompts))
    if not unique:
        raise ConfigError("there is no caption and no prompt to look for phrases in")
    spans = family.read_spans(family.load_tokenizer(source), unique)
    missing: dict[str, PhraseNotFound] = {}
    counts = dict.fromkeys((entry.phrase for entry in phrases), 0)
    positions: dict[str, tuple[Positions, ...]] = {}
    for prompt, prompt_spans in zip(unique, spans, strict=True):
        row: list[Positions] = []
        for entry in phrases:
            try:
                row.append(locate(prompt_spans, prompt, entry.phrase))
                counts[entry.phrase] += 1
            except PhraseNotFound as error:
                missing.setdefault(entry.phrase, error)
                row.append(())
        positions[prompt] = tuple(row)
    for phrase, count in counts.items():
        if not count:
            other_prompts = f" (nor in {len(unique) - 1} others)" if len(unique) > 1 else ""
            raise PhraseNotFound(f"{missing[phrase]}{other_prompts}")
    return positions


def list_captions(config: Config, family: Family, source: Source) -> dict[str, str]:
    """What each clip's caption is when nothing is left to chance, by the path of the clip."""
    captions: dict[str, str] = {}
    for data in (*config.data, *config.validation.data):
        clipset = clipset_of(config, data, family, source)
        clips = find(
            clipset.clips,
            masks="none",
            folders={},
            captions=clipset.captions,
            caption=clipset.caption,
            wording=clipset.wording,
        ).clips
        captions |= {str(clip.clip): _prepare_caption(clip.caption, clipset) for clip in clips}
    return captions


def _prepare_caption(caption: str, clipset: Clipset) -> str:
    """As `data.prepare` words it, in the order of tags that is not shuffled."""
    worded = add_trigger(apply_template(caption, clipset.template), clipset.trigger)
    orders = list_orders(
        worded, clipset.trigger, shuffle=clipset.shuffle_tags, keep=clipset.keep_tags
    )
    return orders[0]
