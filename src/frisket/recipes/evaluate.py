"""`frisket evaluate`: did the mask work? Base and trained runs side by side, and how sure it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from frisket.config.load import ConfigError
from frisket.config.tree import Config
from frisket.evaluation.comparison import Comparison
from frisket.evaluation.measured import Measured
from frisket.evaluation.verdict import Verdict, judge
from frisket.faces.recognise import (
    FaceRecogniser,
    identify_models,
    open_recogniser,
)
from frisket.families.base import FAMILIES, Family, Source
from frisket.progress import Progress
from frisket.runs.prepare import source_of
from frisket.runs.sampling.sampler import embed_prompts
from frisket.scoring.attention.phrases import (
    choose_phrases,
    list_captions,
    locate_in_prompts,
)
from frisket.scoring.attention.reading import PhraseScenes
from frisket.scoring.attention.scenes import build_scenes
from frisket.scoring.clips import EvalSet, choose_eval_set
from frisket.scoring.errors import ErrorLevels
from frisket.scoring.feature_extractors import open_feature_extractor
from frisket.scoring.page import Evaluation, collect_values, write_page
from frisket.scoring.prompts import EvalPrompts, choose_prompts
from frisket.scoring.runner import BASE, RunScorer, load_training_pictures
from frisket.scoring.runs import open_runs
from frisket.scoring.similarity import measure_likeness
from frisket.training.memory.out_of_memory import room_for


@dataclass(frozen=True, slots=True)
class Measures:
    """How runs are measured: what a user may choose."""

    clips: Path | None = None  # other clips than those held out
    masks: str = ""  # of those: a folder, "alpha", "sidecar" or "listed"
    prompts: Sequence[str] = ()
    unrelated: Sequence[str] = ()
    seeds: int = 8  # samples of each prompt
    draws: int = 4  # of noise, at each noise level of each clip
    images: Sequence[Path] = ()  # of models that start from pictures
    features: Path | None = None  # folder of a CLIP, SigLIP or DINO model
    faces: Path | None = None  # folder of a face detector and recogniser
    samples: bool = True
    phrases: Sequence[str] = ()  # REGION=PHRASE; those of [regions] where there is none


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """The page (its JSON lies beside it) and what it says."""

    page: Path
    verdict: Verdict
    measured: tuple[Measured, ...]
    notes: tuple[str, ...]
    comparison: Comparison | None = None  # of several runs, run against run


@room_for("evaluate")
def evaluate(
    configs: Sequence[Config],
    output: Path,
    measures: Measures | None = None,
    *,
    progress: Progress = lambda *_: None,
) -> EvaluationResult:
    """Measure finished runs of one base against the base; write report.html, .json and samples.

    The same clips, noise, prompts and seeds for all; docs/evaluate.md defines every number. Text
    encoder and denoiser are never loaded together, and one LoRA at a time. Raises ConfigError for
    runs that cannot be measured together and for what is missing, the errors of `prepare`,
    MaskWeightsNotFound (features) and FaceModelNotFound (faces).
    """
    how = measures or Measures()
    _check(configs, how)
    runs = open_runs(configs, progress)
    family = FAMILIES.load(configs[0].model.family)
    source = source_of(configs[0], family)
    measured_on = choose_eval_set(runs, how.clips, how.masks)
    words = _find_phrases(family, source, measured_on, how.phrases)
    prompts = _choose_prompts(configs[0], source.variant, how) if how.samples else None
    # Opened before any work, so that a wrong folder is found at once; they are small.
    extractor = open_feature_extractor(how.features, source.device) if how.features else None
    faces = _open_faces(how.faces, source.device) if how.faces else None
    embedded = embed_prompts(family, source, prompts.all) if prompts else {}
    levels = ErrorLevels(configs[0].validation.t, how.draws, torch.device(source.device))
    folder = output / "samples"
    scorer = RunScorer(
        configs[0],
        family,
        source,
        measured_on,
        levels,
        prompts,
        embedded,
        folder,
        progress,
        words=words,
    )
    results = scorer.run(runs)
    model = next((run for run in runs if run.masked), None)
    pictures = load_training_pictures(family, source, model) if prompts and model else []
    samples = {name: result.subject for name, result in results.items()}
    likeness = measure_likeness(samples, pictures, extractor, faces, BASE)
    measured = tuple(
        collect_values(run, results[run.name].errors, results[run.name].drift, likeness)
        for run in runs
    )
    evaluation = Evaluation(
        runs=runs,
        measured=measured,
        verdict=judge(measured),
        measured_on=measured_on,
        prompts=prompts,
        likeness=likeness,
        pictures={name: [*result.subject, *result.unrelated] for name, result in results.items()},
        levels=levels,
        taught=len(pictures),
        phrases=words.phrases,
        attention=tuple(scorer.attention.values()),
    )
    page = write_page(evaluation, output)
    return EvaluationResult(
        page, evaluation.verdict, measured, evaluation.notes(), evaluation.comparison
    )


def _check(configs: Sequence[Config], how: Measures) -> None:
    """Refuse what cannot be measured, before anything is opened."""
    if not configs:
        raise ConfigError("evaluate: name at least one run, its folder or its config file")
    if not how.samples and (how.features or how.faces):
        raise ConfigError("--features and --faces look at samples: leave --no-samples out")


def _open_faces(folder: Path, device: str) -> FaceRecogniser:
    """The models in a folder."""
    return open_recogniser(identify_models(folder), device)


def _find_phrases(
    family: Family, source: Source, measured_on: EvalSet, typed: Sequence[str]
) -> PhraseScenes:
    """The phrases of the regions in the clips that are measured on; none where there are none."""
    config = measured_on.config
    if config is None or not (typed or config.phrases):
        return PhraseScenes()
    phrases = choose_phrases(config, typed)
    captions = list_captions(config, family, source)
    pairs = [
        (batch, captions[file])
        for batch, file in zip(measured_on.batches, measured_on.files, strict=True)
    ]
    located = locate_in_prompts(family, source, [caption for _, caption in pairs], phrases)
    return PhraseScenes(phrases, tuple(build_scenes(pairs, located, measured_on.regions)))


def _choose_prompts(config: Config, variant: str, how: Measures) -> EvalPrompts:
    return choose_prompts(
        config,
        variant,
        prompts=how.prompts,
        unrelated=how.unrelated,
        seeds=how.seeds,
        images=how.images,
    )
