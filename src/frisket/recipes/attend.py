"""`frisket attend`: where the words of prompts look, as pictures and against the masks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from frisket.attention.base import Positions
from frisket.config.load import ConfigError
from frisket.config.load import check as check_config
from frisket.config.tree import Config
from frisket.data.loader import Loader
from frisket.data.records import Item, Prepared
from frisket.data.sample import Batch
from frisket.families.base import FAMILIES, Family, Parts, Source
from frisket.families.experts import first
from frisket.inference.generate import PromptEmbeddings
from frisket.inference.sample_specs import SampleSpec, check
from frisket.progress import Progress
from frisket.runs.prepare import prepare, source_of
from frisket.runs.sampling.prompt_file import PromptLine
from frisket.runs.sampling.sampler import (
    check_loras,
    embed_prompts,
    load_sampler,
    plan_of,
    tell_reading,
)
from frisket.runs.sampling.samples import build_specs
from frisket.scoring.attention.page import AttentionReport, write_attention_page
from frisket.scoring.attention.phrases import (
    RegionPhrase,
    choose_phrases,
    list_captions,
    locate_in_prompts,
)
from frisket.scoring.attention.reading import (
    AttentionReading,
    ModelReading,
    WordScene,
    find_layers,
    read_sample,
)
from frisket.scoring.attention.scenes import build_scenes, decode_scenes, list_models, read_scenes
from frisket.scoring.errors import ErrorLevels
from frisket.training.memory.out_of_memory import room_for

ClipKind = Literal["", "held-out", "training"]


@dataclass(frozen=True, slots=True)
class AttendOptions:
    """What is looked at: prompts that are sampled, or else clips of the configuration."""

    phrases: Sequence[str] = ()  # REGION=PHRASE or PHRASE; those of [regions] where there is none
    prompts: Sequence[str] = ()
    seeds: Sequence[int] = (0,)
    clips: ClipKind = ""  # held-out where there are such, else training
    limit: int = 8  # clips at most
    layers: Sequence[str] = ("all",)
    form: Literal["attention", "output"] = "attention"
    softmax: Literal["all", "text"] = "all"
    t: Sequence[float] = (0.25, 0.5, 0.75)
    draws: int = 4  # noises at each level of each clip


@dataclass(frozen=True, slots=True)
class AttendResult:
    """The page (its JSON lies beside it), the sheets of heat maps, and what the page says."""

    page: Path
    sheets: tuple[Path, ...]
    summary: str
    notes: tuple[str, ...]


@room_for("attend")
def attend(
    config: Config,
    output: Path,
    options: AttendOptions | None = None,
    *,
    lora: Sequence[tuple[Path, float]] = (),
    progress: Progress = lambda *_: None,
) -> AttendResult:
    """Read where each phrase looks, base and tuned model side by side where there is a LoRA.

    Writes attend.html, attend.json and a sheet of heat maps a phrase and picture into `output`;
    docs/attend.md defines every number. Phrases, layers and LoRAs are checked before any weights
    are read. Raises ConfigError, PhraseNotFound, PhraseCut, AdapterMismatch, WeightsNotFound, and
    ValueError for layers and forms that the model has not.
    """
    options = options or AttendOptions()
    check_config(config)
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    phrases = choose_phrases(config, options.phrases)
    levels = ErrorLevels(tuple(options.t), options.draws, torch.device(source.device))
    reading = AttentionReading(levels, tuple(options.layers), options.form, options.softmax)
    _check_reading(reading, phrases)
    check_loras(family, source.variant, lora)
    captions = {} if options.prompts else list_captions(config, family, source)
    located = locate_in_prompts(
        family, source, list(options.prompts) or list(captions.values()), phrases
    )
    _check_layers(family, source, reading)
    notes: list[str] = []
    specs: list[SampleSpec] = []
    scenes: list[WordScene] = []
    embedded: PromptEmbeddings = {}
    if options.prompts:
        kind = "samples"
        specs = _build_specs(config, family, source, options)
        tell_reading(family.variants[source.variant], source, lora)
        embedded = embed_prompts(family, source, specs)
    else:
        prepared = prepare(config, progress=progress)
        kind, batches = _choose_batches(prepared, captions, located, options, notes)
        scenes = build_scenes(batches, located, prepared.regions)
    parts = load_sampler(family, source, plan_of(config), lora)
    tile = config.memory.tile_vae
    if specs:
        readings = _read_specs(
            family, parts, specs, embedded, located, reading, progress, tuned=bool(lora), tile=tile
        )
    else:
        scenes = decode_scenes(family, parts, scenes, levels.device)
        readings = read_scenes(family, parts, scenes, reading, phrases, progress, tuned=bool(lora))
    report = AttentionReport(
        phrases, readings, reading, kind, _describe_model(family, source, lora), notes
    )
    page, sheets = write_attention_page(report, output)
    return AttendResult(page, sheets, report.summarise(), tuple(notes))


def _check_reading(reading: AttentionReading, phrases: Sequence[RegionPhrase]) -> None:
    if wrong := [t for t in reading.levels.t if not 0 < t <= 1]:
        raise ConfigError(f"--t {wrong[0]:g}: noise levels lie above 0 and up to 1, pure noise")
    if reading.form == "output" and len(phrases) < 2:
        raise ConfigError(
            "--form output compares phrases with each other: give two or more (--phrase)"
        )


def _check_layers(family: Family, source: Source, reading: AttentionReading) -> None:
    """Refuse layers and forms that the model has not, on its shapes alone."""
    denoiser = family.load_denoiser(replace(source, device="meta", experts=()))
    layers = find_layers(family, first(denoiser), reading.layers)
    crossing = [layer.name for layer in layers if layer.kind == "cross"]
    if reading.form == "output" and crossing:
        raise ConfigError(
            f"--form output: {crossing[0]} of {family.name} is cross-attention, whose text has no"
            " output to compare with; leave --form out"
        )


def _build_specs(
    config: Config, family: Family, source: Source, options: AttendOptions
) -> list[SampleSpec]:
    variant = family.variants[source.variant]
    lines = [PromptLine(prompt) for prompt in options.prompts]
    specs = build_specs(variant, lines, options.seeds, config.preview.sampling())
    check(family, source.variant, specs)
    return specs


def _choose_batches(
    prepared: Prepared,
    captions: Mapping[str, str],
    located: Mapping[str, tuple[Positions, ...]],
    options: AttendOptions,
    notes: list[str],
) -> tuple[str, list[tuple[Batch, str]]]:
    """The clips that are looked at, evenly over the set, each with its caption.

    Those whose caption holds none of the phrases are left out, and counted in the notes.
    """
    kind = options.clips or ("held-out" if prepared.held else "training")
    if kind == "held-out" and not prepared.held:
        raise ConfigError(
            "no clip is held out: set validation.holdout, or look at training clips"
            " (--clips training)"
        )
    items = prepared.held if kind == "held-out" else prepared.items
    unique = {item.clip: item for item in reversed(items) if not item.flip}
    having: list[Item] = []
    for item in sorted(unique.values(), key=lambda item: item.name):
        if any(located[captions[item.clip]]):
            having.append(item)
    if len(having) < len(unique):
        notes.append(
            f"{len(unique) - len(having)} of {len(unique)} {kind} clips have none of the phrases in"
            " their captions and were left out."
        )
    if not having:
        raise ConfigError(f"none of the {len(unique)} {kind} clips has a phrase in its caption")
    chosen_items = having[:: -(-len(having) // options.limit)]
    loader = Loader(replace(prepared, held=tuple(chosen_items)), batch=1, seed=0, prefetch=0)
    pairs = [
        (batch, captions[item.clip])
        for batch, item in zip(loader.collate_held(), chosen_items, strict=True)
    ]
    return f"{len(pairs)} {kind} clips", pairs


def _read_specs(
    family: Family,
    parts: Parts,
    specs: Sequence[SampleSpec],
    embedded: PromptEmbeddings,
    located: Mapping[str, tuple[Positions, ...]],
    reading: AttentionReading,
    progress: Progress,
    *,
    tuned: bool,
    tile: bool,
) -> list[ModelReading]:
    assert parts.denoiser is not None
    parts.denoiser.eval()
    readings = []
    for model, state in list_models(parts.denoiser, tuned=tuned):
        scenes, maps = [], []
        with state:
            for index, spec in enumerate(specs):
                scene = WordScene(
                    f"{spec.prompt}, seed {spec.seed}", spec.prompt, located[spec.prompt]
                )
                picture, read = read_sample(
                    family, parts, embedded, spec, scene, reading, tile=tile
                )
                scenes.append(replace(scene, frames=picture.frames))
                maps.append(read)
                progress(f"samples of the {model} model", index + 1, len(specs))
        readings.append(ModelReading(model, scenes, maps))
    return readings


def _describe_model(
    family: Family, source: Source, lora: Sequence[tuple[Path, float]]
) -> dict[str, Any]:
    return {
        "family": family.name,
        "variant": source.variant,
        "source": source.path,
        "lora": ", ".join(f"{path} at {strength:g}" for path, strength in lora) or "none",
    }
