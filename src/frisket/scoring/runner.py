"""One run after the other on the denoiser: its errors, its samples, how far it drifted."""

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
from frisket.runs.sampler import free, load_sampler, load_waiting, plan_of
from frisket.runs.samples import slug
from frisket.scoring.clips import Taught, Yardstick, training_pictures
from frisket.scoring.errors import Errors, Levels, drift_of, errors_of
from frisket.scoring.prompts import Asked
from frisket.scoring.runs import Run
from frisket.shapes import Latents
from frisket.training.memory.precision import tile

BASE = "base"


@dataclass(slots=True)
class Seen:
    """What one model did; of the base, pictures alone."""

    errors: Errors = field(default_factory=dict)
    subject: list[Picture] = field(default_factory=list)
    unrelated: list[Picture] = field(default_factory=list)
    drift: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Work:
    """The same clips, noise, prompts and seeds for every run; one LoRA is loaded at a time."""

    config: Config  # of the first run: how the base is held in memory
    family: Family
    source: Source
    measured_on: Yardstick
    levels: Levels
    asked: Asked | None  # None: nothing is sampled
    told: PromptEmbeddings  # its prompts, embedded
    folder: Path  # for the samples
    progress: Progress
    scenes: list[tuple[Latents, Conditioning]] = field(default_factory=list)

    def run(self, runs: Sequence[Run]) -> dict[str, Seen]:
        """What every run did, and the base, by name."""
        seen = {BASE: Seen()} if self.asked else {}
        plan = plan_of(self.config)  # of one base, held one way: its precision is in the numbers
        for run in runs:
            parts = load_sampler(self.family, self.source, plan, [(run.lora, 1.0)])
            assert parts.denoiser is not None
            parts.denoiser.eval()
            if self.asked and not self.scenes:
                with frozen(parts.denoiser):
                    self._sample(parts, self.asked, seen[BASE], BASE)
                self.scenes = self._scenes(parts, seen[BASE].unrelated)
            seen[run.name] = self._look(run, parts, parts.denoiser)
            del parts
            free(self.source)
        return seen

    def _look(self, run: Run, parts: Parts, denoiser: nn.Module) -> Seen:
        objective = self.family.objective(self.source.variant)

        def told(done: int, total: int) -> None:
            self.progress(f"errors of {run.name}", done, total)

        how = (self.family, objective, denoiser)
        seen = Seen(errors_of(*how, self.measured_on, self.levels, told))
        if self.asked:
            self._sample(parts, self.asked, seen, run.name)
            seen.drift = drift_of(*how, self.scenes, self.levels)
        return seen

    def _sample(self, parts: Parts, asked: Asked, seen: Seen, name: str) -> None:
        made = sample(
            self.family,
            parts,
            self.told,
            asked.all,
            device=self.levels.device,
            tile=self.config.memory.tile_vae,
        )
        fps = self.family.variants[self.source.variant].fps
        for index, picture in enumerate(made):
            shot = picture.spec
            file = f"{index:03d}-{slug(shot.prompt)}-{shot.seed}"
            save(picture.frames, self.folder / name.replace("/", "-") / file, fps)
            (seen.subject if index < len(asked.subject) else seen.unrelated).append(picture)
            self.progress(f"samples of {name}", index + 1, len(asked.all))

    @torch.no_grad()
    def _scenes(
        self, parts: Parts, pictures: Sequence[Picture]
    ) -> list[tuple[Latents, Conditioning]]:
        """What the base paints for the unrelated prompts, as latents with what the model is told.

        Drift is taken on these: no outside data are needed, and every picture fits its prompt.
        """
        vae, vision, device = parts.vae, parts.vision, self.levels.device
        assert vae is not None
        card = self.family.variants[self.source.variant]
        scenes: list[tuple[Latents, Conditioning]] = []
        with visiting(vae, device), visiting(vision, device):
            for picture in pictures:
                clip = picture.frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
                clip = clip.to(device, self.source.dtype)
                observed = self.family.image_conditioning(
                    vae, vision, clip, references(card, picture.spec)
                )
                words = self.told[picture.spec.prompt, picture.spec.images]
                scenes.append((self.family.encode(vae, clip).cpu(), {**words, **observed}))
        return scenes


def pictures_taught(family: Family, source: Source, run: Run) -> list[Taught]:
    """Training pictures of a run with masks."""
    vae, _ = load_waiting(family, source)
    if run.config.memory.tile_vae:
        tile(vae)
    device = torch.device(source.device)
    with visiting(vae, device):
        grid = family.variants[source.variant].grid
        return training_pictures(run, family, vae, grid, device)


@contextmanager
def visiting(module: nn.Module | None, device: torch.device) -> Iterator[None]:
    """Inside, a module that waits on the CPU is on the device."""
    if module is None:
        yield
        return
    module.to(device)
    try:
        yield
    finally:
        module.to("cpu")
