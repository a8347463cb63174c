"""What both scenarios share: a folder with a config, and a trained adapter loaded again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.effects.cells import Cell, Scores, run_cell
from benchmarks.effects.one_subject import load_parts
from numpy.typing import NDArray

from frisket.adapters import lora
from frisket.config.load import load
from frisket.disk.atomic import replacing
from frisket.evaluation.metrics import drift
from frisket.families.base import FAMILIES, Parts
from frisket.media.frames import write_image
from frisket.pocket.world import MOTIONS, Scene, draw, frames_of, is_held_out, random_scene
from frisket.recipes.quickstart import prepare_bank
from frisket.recipes.train import train
from frisket.runs import quickstart_data

STEPS = 300
SAMPLES = 32  # of every kind that is sampled
MASKS = 'data.0.masks={source="folder", path="masks"}'
CONFIG = """\
[model]
family = "pocket"
variant = "{variant}"
device = "cpu"

[[data]]
clips = "clips"
frames = {frames}

[lora]
rank = 16

[optimizer]
lr = 1e-3
schedule = "linear"
final = 0.1
warmup = 20

[swap]
variants = 16
prompts = [
{prompts}
]

[run]
steps = {steps}
batch = 8
seed = {seed}
output = "run"
cache = "../cache"
save_every = 0
threads = 1
"""
Measure = Callable[[Any, Parts], tuple[Scores, NDArray[np.uint8]]]


def make_project(
    folder: Path, variant: str, seed: int, make_clips: Callable[[Path, int], None]
) -> Path:
    """Clips, captions, masks and a config, once; returns the config file."""
    path = folder / "frisket.toml"
    if not path.is_file():
        make_clips(folder, seed)
        frames = FAMILIES.load("pocket").variants[variant].frames
        bank, _ = quickstart_data.backgrounds()
        prompts = "\n".join(f'  "{background.words}",' for background in bank)
        text = CONFIG.format(
            variant=variant, frames=frames, seed=seed, steps=STEPS, prompts=prompts
        )
        with replacing(path) as draft:
            draft.write_text(text, encoding="utf-8")
    return path


def run_row(
    out: Path,
    part: str,
    name: str,
    seed: int,
    settings: tuple[str, ...],
    project: Callable[[], Path],
    measure: Measure,
) -> Cell:
    """Train `name` with `settings` at `seed` and measure it, unless that was done."""
    settings = (f"run.output={json.dumps(name)}", *settings)

    def work() -> tuple[Scores, NDArray[np.uint8]]:
        config = load(project(), settings)
        if config.swap.rate:
            prepare_bank(config, lambda *_: None)
        trained = train(config).lora
        return measure(FAMILIES.load(config.model.family), load_parts(config, ((trained, 1.0),)))

    return run_cell(out, part, name, seed, settings, work)


def run_base(out: Path, part: str, project: Callable[[], Path], measure: Measure) -> Cell:
    """The packaged base, measured in the same way."""

    def work() -> tuple[Scores, NDArray[np.uint8]]:
        config = load(project())
        return measure(FAMILIES.load(config.model.family), load_parts(config, ()))

    return run_cell(out, part, "base", 0, (), work)


def write_grey(path: Path, cover: NDArray[np.float32]) -> None:
    """A grey mask of a cover `H W` in [0, 1]."""
    grey = np.repeat((cover * 255).round().astype(np.uint8)[..., None], 3, axis=-1)
    write_image(path, torch.from_numpy(grey))


def write_caption(path: Path, caption: str) -> None:
    """A caption beside its clip."""
    with replacing(path) as draft:
        draft.write_text(f"{caption}\n", encoding="utf-8")


def draw_scenes(
    seed: int, fits: Callable[[Scene], bool], count: int = SAMPLES, motions: tuple[str, ...] = ()
) -> list[Scene]:
    """Scenes of captions the base never saw."""
    rng = np.random.RandomState(seed)
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng, motions=motions or None)
        if is_held_out(scene) and fits(scene):
            scenes.append(scene)
    return scenes


@torch.no_grad()
def measure_clip_drift(family: Any, parts: Parts) -> float:
    """`quickstart_data.drift_of` on clips: squared distance to the base's prediction.

    16 clips of captions the base never saw, in the motions of the corpus, at the same levels.
    """
    scenes = draw_scenes(11, lambda _: True, 16, tuple(MOTIONS))
    frames = family.variants[parts.variant].frames
    pixels = np.stack([[draw(each)[0] for each in frames_of(s, frames)] for s in scenes])
    clips = torch.from_numpy(pixels).permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    clean = family.encode(parts.vae, clips)
    conditioning = family.embed(parts.text, [scene.caption for scene in scenes])
    objective = family.objective(parts.variant)
    generator = torch.Generator().manual_seed(3)
    distances = []
    for level in quickstart_data.LEVELS:
        noise = torch.randn(clean.shape, generator=generator)
        t = torch.full((len(scenes),), level)
        noisy, _ = objective.corrupt(clean, noise, t)
        tuned = family.predict(parts.denoiser, noisy, t, conditioning)
        with lora.frozen(parts.denoiser):
            base = family.predict(parts.denoiser, noisy, t, conditioning)
        distances.append(drift(tuned, base))
    return float(np.mean(distances))
