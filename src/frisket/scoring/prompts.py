"""What is sampled to evaluate a run: prompts for the subject, and prompts that have none of it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.inference.sample_specs import SampleSpec, check
from frisket.media.files import find
from frisket.runs.prepare import clipset_of, source_of
from frisket.runs.sampling.prompt_file import PromptLine
from frisket.runs.sampling.samples import build_specs

OF_CAPTIONS = "captions of the training clips"
CAPTIONS = 4  # that are sampled where nothing else names the subject


@dataclass(frozen=True, slots=True)
class EvalPrompts:
    """The shots of an evaluation, and where their prompts are from."""

    subject: tuple[SampleSpec, ...]
    unrelated: tuple[SampleSpec, ...]
    origin: str

    @property
    def all(self) -> tuple[SampleSpec, ...]:
        """The subject's in order, the unrelated behind them."""
        return (*self.subject, *self.unrelated)


def choose_prompts(
    config: Config,
    variant: str,
    *,
    prompts: Sequence[str],
    unrelated: Sequence[str],
    seeds: int,
    images: Sequence[Path],
) -> EvalPrompts:
    """The subject's prompts with every seed, the unrelated ones with one; sizes as in [preview].

    Raises ConfigError where nothing names the subject or an unrelated prompt does, and ValueError
    for shots that the model cannot make.
    """
    family = FAMILIES.load(config.model.family)
    card = family.variants[variant]
    lines, origin = (prompts, "--prompt") if prompts else _find_prompts(config)
    others = tuple(unrelated) or family.suggestions.pick_unrelated(video=card.video)
    triggers = {data.trigger.lower() for data in config.data if data.trigger}
    for prompt in others:
        if named := triggers & set(re.findall(r"\w+", prompt.lower())):
            raise ConfigError(
                f"--unrelated {prompt!r} holds the trigger {named.pop()!r}: drift is measured on"
                " prompts that have nothing to do with the subject; leave it out"
            )
    settings = config.preview.sampling()
    settings["images"] = tuple(images) or config.preview.images
    subject = build_specs(card, [PromptLine(prompt) for prompt in lines], range(seeds), settings)
    apart = build_specs(card, [PromptLine(prompt) for prompt in others], [0], settings)
    check(family, variant, [*subject, *apart])
    return EvalPrompts(tuple(subject), tuple(apart), origin)


def _find_prompts(config: Config) -> tuple[Sequence[str], str]:
    """What the run itself calls the subject: trigger words, else preview prompts, else captions."""
    triggers = dict.fromkeys(data.trigger for data in config.data if data.trigger)
    if triggers:
        return list(triggers), "the trigger word"
    if config.preview.prompts:
        return config.preview.prompts, "[preview] prompts"
    family = FAMILIES.load(config.model.family)
    captions: dict[str, None] = {}
    for data in config.data:
        clipset = clipset_of(config, data, family, source_of(config, family))
        there = find(
            clipset.clips,
            masks="none",
            folders={},
            captions=clipset.captions,
            caption=clipset.caption,
            wording=clipset.wording,
        )
        captions |= dict.fromkeys(clip.caption.strip() for clip in there.clips if clip.caption)
    if not captions:
        raise ConfigError(
            "nothing names the subject: there is no trigger, no [preview] prompt and no caption;"
            ' say how it is asked for: --prompt "..."'
        )
    return list(captions)[:CAPTIONS], OF_CAPTIONS
