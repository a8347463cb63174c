"""One run after the other on the denoiser: its errors, its samples, how far it drifted."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from frisket.adapters.lora import frozen
from frisket.config.tree import Config
from frisket.families.base import Conditioning, Family, Parts, Source
from frisket.inference.generate import Picture, PromptEmbeddings, sample
from frisket.inference.grids import save
from frisket.inference.sample_specs import references
from frisket.progress import Progress
from frisket.runs.methods.focusing import read_focus
from frisket.runs.sampling.sampler import free, load_sampler, load_waiting, plan_of
from frisket.runs.sampling.samples import slug
from frisket.scoring.attention.reading import (
    AttentionReading,
    ModelReading,
    PhraseScenes,
    read_model,
)
from frisket.scoring.clips import EvalSet, TrainingPicture, decode_training_pictures
from frisket.scoring.errors import ErrorLevels, Errors, measure_drift, measure_errors
from frisket.scoring.prompts import EvalPrompts
from frisket.scoring.runs import ScoredRun
from frisket.shapes import Latents
from frisket.training.memory.precision import tile

log = logging.getLogger(__name__)
BASE = "base"


@dataclass(slots=True)
class RunResults:
    """What one model did; of the base, pictures alone."""

    errors: Errors = field(default_factory=dict)
    subject: list[Picture] = field(default_factory=list)
    unrelated: list[Picture] = field(default_factory=list)
    drift: list[float] = field(default_factory=list)


@dataclass(slots=True)
class RunScorer:
    """The same clips, noise, prompts and seeds for every run; one LoRA is loaded at a time."""

    config: Config  # of the first run: how the base is held in memory
    family: Family
    source: Source
    measured_on: EvalSet
    levels: ErrorLevels
    prompts: EvalPrompts | None  # None: nothing is sampled
    embedded: PromptEmbeddings  # its prompts, embedded
    folder: Path  # for the samples
    progress: Progress
    scenes: list[tuple[Latents, Conditioning]] = field(default_factory=list)
    # Where no region has a phrase, no attention is read.
    words: PhraseScenes = field(default_factory=PhraseScenes)
    attention: dict[str, ModelReading] = field(default_factory=dict)  # by run, and of the base

    def run(self, runs: Sequence[ScoredRun]) -> dict[str, RunResults]:
        """What every run did, and the base, by name."""
        results = {BASE: RunResults()} if self.prompts else {}
        plan = plan_of(self.config)  # of one base, held one way: its precision is in the numbers
        for run in runs:
            if word := read_focus(run.lora):
                log.warning(
                    "%s was trained to act on %r alone (lora.focus); here it acts on all words",
                    *(run.lora, word),
                )
            parts = load_sampler(self.family, self.source, plan, [(run.lora, 1.0)])
            assert parts.denoiser is not None
            parts.denoiser.eval()
            if self.prompts and not self.scenes:
                with frozen(parts.denoiser):
                    self._sample(parts, self.prompts, results[BASE], BASE)
                self.scenes = self._paint_scenes(parts, results[BASE].unrelated)
            results[run.name] = self._score(run, parts, parts.denoiser)
            del parts
            free(self.source)
        return results

    def _score(self, run: ScoredRun, parts: Parts, denoiser: nn.Module) -> RunResults:
        objective = self.family.objective(self.source.variant)

        def report(count: int, total: int) -> None:
            self.progress(f"errors of {run.name}", count, total)

        how = (self.family, objective, denoiser)
        result = RunResults(measure_errors(*how, self.measured_on, self.levels, report))
        if self.words.scenes:
            if BASE not in self.attention:
                with frozen(denoiser):
                    self.attention[BASE] = self._attend(self.words, denoiser, BASE)
            self.attention[run.name] = self._attend(self.words, denoiser, run.name)
        if self.prompts:
            self._sample(parts, self.prompts, result, run.name)
            result.drift = measure_drift(*how, self.scenes, self.levels)
        return result

    def _attend(self, words: PhraseScenes, denoiser: nn.Module, name: str) -> ModelReading:
        return read_model(
            self.family,
            self.source.variant,
            denoiser,
            words.scenes,
            AttentionReading(self.levels),
            words.phrases,
            model=name,
            report=lambda done, total: self.progress(f"attention of {name}", done, total),
        )

    def _sample(self, parts: Parts, prompts: EvalPrompts, result: RunResults, name: str) -> None:
        pictures = sample(
            self.family,
            parts,
            self.embedded,
            prompts.all,
            device=self.levels.device,
            tile=self.config.memory.tile_vae,
        )
        fps = self.family.variants[self.source.variant].fps
        for index, picture in enumerate(pictures):
            shot = picture.spec
            file = f"{index:03d}-{slug(shot.prompt)}-{shot.seed}"
            save(picture.frames, self.folder / name.replace("/", "-") / file, fps)
            (result.subject if index < len(prompts.subject) else result.unrelated).append(picture)
            self.progress(f"samples of {name}", index + 1, len(prompts.all))

    @torch.no_grad()
    def _paint_scenes(
        self, parts: Parts, pictures: Sequence[Picture]
    ) -> list[tuple[Latents, Conditioning]]:
        """What the base paints for the unrelated prompts, as latents with what the model is told.

        Drift is taken on these: no outside data are needed, and every picture fits its prompt.
        """
        vae, vision, device = parts.vae, parts.vision, self.levels.device
        assert vae is not None
        card = self.family.variants[self.source.variant]
        scenes: list[tuple[Latents, Conditioning]] = []
        with move_to_device(vae, device), move_to_device(vision, device):
            for picture in pictures:
                clip = picture.frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
                clip = clip.to(device, self.source.dtype)
                observed = self.family.image_conditioning(
                    vae, vision, clip, references(card, picture.spec)
                )
                words = self.embedded[picture.spec.prompt, picture.spec.images]
                scenes.append((self.family.encode(vae, clip).cpu(), {**words, **observed}))
        return scenes


def load_training_pictures(family: Family, source: Source, run: ScoredRun) -> list[TrainingPicture]:
    """Training pictures of a run with masks."""
    vae, _ = load_waiting(family, source)
    if run.config.memory.tile_vae:
        tile(vae)
    device = torch.device(source.device)
    with move_to_device(vae, device):
        grid = family.variants[source.variant].grid
        return decode_training_pictures(run, family, vae, grid, device)


@contextmanager
def move_to_device(module: nn.Module | None, device: torch.device) -> Iterator[None]:
    """Inside, a module that waits on the CPU is on the device."""
    if module is None:
        yield
        return
    module.to(device)
    try:
        yield
    finally:
        module.to("cpu")
