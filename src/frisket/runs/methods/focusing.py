"""LoRAs that were trained on one word of the text (TARA) are sampled so, wherever it is."""

from collections.abc import Sequence
from pathlib import Path

from frisket.adapters.routed.factors import Factors
from frisket.adapters.spec import record_of
from frisket.attention.tokens import PhraseNotFound, locate
from frisket.config.load import ConfigError
from frisket.families.base import Family, Source
from frisket.inference.methods.tara import Tara
from frisket.inference.methods.words import PromptPhrases
from frisket.inference.sample_specs import SampleSpec, references
from frisket.runs.sampling.sampler import files_of
from frisket.runs.sampling.whole_models import read_metadata


def read_focus(path: Path) -> str:
    """The word that a LoRA acted on alone in training (lora.focus); "" of one that acts on all."""
    records = (record_of(read_metadata(file)) for file in files_of(path))
    return next((record.focus for record in records if record is not None and record.focus), "")


def locate_focus(
    family: Family, source: Source, words: Sequence[str], specs: Sequence[SampleSpec]
) -> PromptPhrases:
    """Where each word is in every prompt, () in one without it: there its LoRA leaves the text be.

    Reads tokenizers, no weights. ConfigError for a word that the text encoder cuts off.
    """
    tokenizer, card = family.load_tokenizer(source), family.variants[source.variant]
    phrases: dict[str, tuple[tuple[int, ...], ...]] = {}
    for spec in specs:
        if spec.prompt in phrases:
            continue
        pictures = references(card, spec)
        spans = family.read_spans(tokenizer, [spec.prompt], [pictures] if pictures else ())[0]
        row: list[tuple[int, ...]] = []
        for word in words:
            try:
                row.append(locate(spans, spec.prompt, word))
            except PhraseNotFound:
                row.append(())
            except ValueError as error:
                raise ConfigError(str(error)) from error
        phrases[spec.prompt] = tuple(row)
    return phrases


def focus_words(words: Sequence[str], adapters: Sequence[Factors], phrases: PromptPhrases) -> Tara:
    """The method for those of the LoRAs that have a word; `phrases` are of these alone."""
    focused_adapters = [factors for word, factors in zip(words, adapters, strict=True) if word]
    return Tara(focused_adapters, phrases)
