"""The phrases of the regions, located in every caption that a run may draw, or refused."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from frisket.attention.tokens import PhrasesNotRead, find_occurrences, locate
from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.data.records import Captions, Item, PhraseRow
from frisket.families.base import Family, Source
from frisket.losses.base import ATTENTION
from frisket.media.frames import decode
from frisket.runs.concepts.terms import terms_of

Locator = Callable[[Sequence[Item], Captions], Mapping[str, PhraseRow]]


def needs_attention(config: Config) -> bool:
    """Whether a loss term of the configuration looks at attention."""
    return any(ATTENTION in term.needs for term, _ in terms_of(config).values())


def make_locator(config: Config, family: Family, source: Source) -> Locator | None:
    """What `data.prepare` calls before it encodes anything; None where there are no phrases.

    It raises ConfigError for a region that no mask covers, and PhrasesNotRead with every caption
    that lacks the phrase of a region that its clip's mask covers, or in which it is cut off; so for
    the adapter's own words (lora.focus, lora.align), whose positions come after the regions'. The
    empty caption of a dropout lacks all of them by intent. Where neither a loss term reads
    attention nor the adapter has words of its own, the captions are looked at and no tokenizer is
    loaded: the positions are then left out.
    """
    phrases, lora_words = config.phrases, config.lora.words
    if not phrases and not lora_words:
        return None
    watched = needs_attention(config) or bool(lora_words)
    looked = {**phrases, **{f"lora.{option}": word for option, word in lora_words.items()}}

    def locate_phrases(items: Sequence[Item], captions: Captions) -> Mapping[str, PhraseRow]:
        _check_masks(phrases, items)
        spans = _read_spans(family, source, captions) if watched else {}
        places: dict[str, dict[str, tuple[int, ...] | ValueError]] = {}
        for key, (caption, _) in captions.items():
            places[key] = {
                name: _find(spans.get(key), caption, phrase) for name, phrase in looked.items()
            }
        own_names = tuple(looked)[len(phrases) :]
        required = [*_list_required(items, phrases), *_list_own(items, own_names)]
        failures = {
            f"{clip} [{name if name in own_names else f'regions.{name}'}] {error}": (clip, error)
            for clip, key, name in required
            if isinstance(error := places[key][name], ValueError)
        }
        if failures:
            raise PhrasesNotRead(list(failures.values()), len(required))
        if not watched:
            return {}
        return {
            key: tuple(() if isinstance(place, ValueError) else place for place in row.values())
            for key, row in places.items()
        }

    return locate_phrases


def _check_masks(phrases: Mapping[str, str], items: Sequence[Item]) -> None:
    covered = {region for item in items for region in item.covers}
    missing = [region for region in phrases if region not in covered]
    if missing:
        raise ConfigError(
            f"regions: {', '.join(missing)} has a phrase, but no mask of a training clip covers it;"
            " make its masks, or take the phrase out of [regions]"
        )


def _read_spans(
    family: Family, source: Source, captions: Captions
) -> dict[str, Sequence[tuple[int, int] | None]]:
    """Of each caption which characters every position of the text axis was made from."""
    tokenizer = family.load_tokenizer(source)
    spans = {}
    for key, (caption, pictures) in captions.items():
        references = [decode(path, (0,)) for path, _ in pictures]
        (spans[key],) = family.read_spans(tokenizer, [caption], [references] if references else ())
    return spans


def _find(
    spans: Sequence[tuple[int, int] | None] | None, caption: str, phrase: str
) -> tuple[int, ...] | ValueError:
    try:
        if spans is not None:
            return locate(spans, caption, phrase)
        if not find_occurrences(caption, phrase):
            locate([], caption, phrase)  # says what is missing
    except ValueError as error:  # not there, or cut off
        return error
    return ()


def _list_own(items: Sequence[Item], words: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Clip, text key and option of every place where a word of the adapter must stand."""
    for item in items:
        swapped = [swap.text for swap in item.swaps]
        mixed = [mix.text for mix in item.mixes]
        subset_texts = [subset.text for subset in item.subsets]
        for key in (*item.texts, *swapped, *mixed, *subset_texts):
            yield from ((item.name, key, word) for word in words)


def _list_required(
    items: Sequence[Item], phrases: Mapping[str, str]
) -> Iterator[tuple[str, str, str]]:
    """Clip, text key and region of every place where a phrase must stand."""
    for item in items:
        regions = [region for region in phrases if region in item.covers]
        captions = [] if item.subsets else [*item.texts]  # with subsets no draw takes it
        captions += [swap.text for swap in item.swaps] + [mix.text for mix in item.mixes]
        for key in captions:
            yield from ((item.name, key, region) for region in regions)
        for subset in item.subsets:
            yield from ((item.name, subset.text, region) for region in subset.kept)
