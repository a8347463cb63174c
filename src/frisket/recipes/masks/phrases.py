"""What `frisket masks` looks for in each clip: phrases by hand, or those of its caption."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from frisket.config.maskgen import MaskGeneration
from frisket.maskgen.base import BackendUnusable
from frisket.maskgen.cleanup.stages import Prompts
from frisket.maskgen.pipeline import Models, PipelineParts, needs_phrases
from frisket.maskgen.text.chunks import ReadChunks, read_chunks
from frisket.maskgen.text.phrases import Phrase, find_noun_phrases, parse_phrases, survey_captions
from frisket.maskgen.text.rules import RegionPlan, RegionRules, plan
from frisket.maskgen.text.spacy_chunks import load_reader
from frisket.media.files import ClipFiles
from frisket.media.frames import decode

LEFT_OUT = "left out"


def choose_reader(name: str, options: MaskGeneration) -> ReadChunks:
    """What finds the noun phrases of captions: word lists, or the spaCy pipeline of `spacy:NAME`.

    BackendUnusable for another name, where no captions are read, and as `load_reader`.
    """
    if not name:
        return read_chunks
    if not options.prompts.from_captions:
        raise BackendUnusable("--noun-phrases reads captions for --from-captions; give that too")
    kind, _, pipeline = name.partition(":")
    if kind != "spacy" or not pipeline:
        raise BackendUnusable(
            f"--noun-phrases {name!r}: write spacy: and the name of an installed pipeline, as in"
            " spacy:en_core_web_sm, or leave the option out for the word lists"
        )
    return cache(load_reader(pipeline))  # read for each clip, and for all of them together


def plan_clips(
    options: MaskGeneration,
    sources: Sequence[PipelineParts],
    table: RegionRules,
    clips: Sequence[ClipFiles],
    reader: ReadChunks = read_chunks,
) -> tuple[dict[str, Prompts], list[str]]:
    """The phrases of every clip by region, and what a user should know of them."""
    asking = [parts.front for parts in sources if needs_phrases(parts)]
    _check_phrases(options, asking)
    if not asking:
        return {clip.name: {} for clip in clips}, []
    if options.prompts.phrases:
        shared = _plan_regions(options, parse_phrases(options.prompts.phrases), table)
        return {clip.name: shared.regions for clip in clips}, shared.list_notes()
    words = options.prompts.trigger, options.prompts.class_word
    planned = {
        clip.name: _plan_regions(
            options, find_noun_phrases(clip.caption, *words, read=reader), table
        )
        for clip in clips
    }
    survey = survey_captions(((clip.name, clip.caption) for clip in clips), *words, read=reader)
    messages = [*_plan_regions(options, survey.phrases, table).list_notes(), *survey.notes]
    return {name: region_plan.regions for name, region_plan in planned.items()}, messages


def _check_phrases(options: MaskGeneration, asking: Sequence[str]) -> None:
    """Refuse phrases given twice, or to backends that take none, and none where they are needed."""
    phrases, from_captions = options.prompts.phrases, options.prompts.from_captions
    if phrases and from_captions:
        raise BackendUnusable("give --phrases or --from-captions, not both")
    if not asking and (phrases or from_captions):
        raise BackendUnusable(
            f"{', '.join(options.backends)} finds regions of its own and takes no phrases;"
            " choose a backend that does (frisket masks backends), or leave the phrases out"
        )
    if asking and not (phrases or from_captions):
        raise BackendUnusable(
            f"{asking[0]} must be told what to look for: --phrases 'face; hair; red jacket', or"
            " --from-captions"
        )


def _plan_regions(
    options: MaskGeneration, phrases: Sequence[Phrase], table: RegionRules
) -> RegionPlan:
    if options.prompts.everything_but:
        return RegionPlan({LEFT_OUT: tuple(dict.fromkeys(phrase.text for phrase in phrases))})
    return plan(phrases, table)


def caption_clips(
    options: MaskGeneration, clips: Sequence[ClipFiles], models: Models, *, dry: bool
) -> tuple[Sequence[ClipFiles], list[str]]:
    """Clips without a caption with one that a model wrote of their first frame, and a note each.

    With `dry` none is written, and the note says how many would be.
    """
    if not options.prompts.captioner:
        return clips, []
    bare = [clip for clip in clips if not clip.caption]
    if dry:
        return clips, [
            f"{len(bare)} clip{'s' * (len(bare) > 1)} without a caption would be captioned first"
        ]
    captioner = models.get(options.prompts.captioner)
    captions: dict[str, str] = {}
    for clip in bare:
        (captions[clip.name],) = captioner.caption([decode(clip.clip, [0])[0]])
    messages = [f"{name}: captioned {caption!r}" for name, caption in captions.items()]
    return [
        replace(clip, caption=captions.get(clip.name, clip.caption)) for clip in clips
    ], messages
