"""One run of either kind: pictures of the pocket world, trained by the trainer from random weights.

Fixed before any run was looked at:

- `full`: the encoder and decoder of `maskdit pocket` (1.45 M parameters), every token seen.
- `masked`: the same, half of the tokens left out and reconstructed (strength 0.1) until 85 % of the
  run, then none (the paper's unmasking tuning). Pictures have no masks: all tokens weigh 1, as in
  the paper. It takes as many steps as the other's FLOPs pay for.
- Both: batch 16, AdamW, rate 1e-3 with 100 steps of warm-up and a cosine down to 0, captions
  dropped in 10 % of draws, the same pictures, the same start. A seed is that of noise and order.

Measured on 24 pictures whose captions no run was shown, all tokens seen:

- `error`, the claim: mean squared error of the predicted clean picture, mean of t = 0.25, 0.5, 0.75
  and 0.9, at the end of the run. The masked run is to be no worse at equal FLOPs, over the seeds.
- `weighted`: the same under EDM's weight of a noise level, mean of the nine tenths of what t is
  drawn from: the objective itself.
- `colours`: of 64 samples (20 steps, guidance 1.5) the share of all pixels that have a colour of
  the background that was asked for; `background`, `shape`, `colour`: the judge's verdicts.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.effects.cells import Cell, Scores, run_cell
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from frisket.config.load import check
from frisket.config.tree import Config
from frisket.disk.atomic import replacing
from frisket.families.base import FAMILIES, Parts, Source
from frisket.families.routes import keep_tokens
from frisket.media.frames import write_image
from frisket.objectives.edm import LEVEL_MEAN, LEVEL_STD, Edm
from frisket.pocket.judge import correct, judge, measure_backgrounds
from frisket.pocket.world import Scene, draw, is_held_out, random_scene
from frisket.recipes.train import train
from frisket.runs.quickstart_data import sample

FAMILY = FAMILIES.load("maskdit")
VARIANT = "pocket"
PART = "maskdit"
NAMES = ("full", "masked")
STEPS = 800  # of the run that sees every token
RATIO, FULL_FROM, STRENGTH = 0.5, 0.85, 0.1
PICTURES, HELD, SAMPLES, BATCH = 1000, 24, 64, 16
CURVE = 5  # points of a curve
LEVELS = (0.25, 0.5, 0.75, 0.9)


def draw_scenes(count: int, seed: int, *, held: bool) -> list[Scene]:
    """Scenes of the corpus with captions that are held out, or with those that are not."""
    rng, scenes = np.random.RandomState(seed), list[Scene]()
    while len(scenes) < count:
        scene = random_scene(rng)
        if is_held_out(scene) == held:
            scenes.append(scene)
    return scenes


def make_pictures(folder: Path) -> None:
    """Pictures and captions under `folder`/train and `folder`/held, once."""
    for name, count, held in (("train", PICTURES, False), ("held", HELD, True)):
        place = folder / name
        if (place / f"{count - 1}.txt").is_file():
            continue
        for index, scene in enumerate(draw_scenes(count, 5, held=held)):
            picture, _ = draw(scene)
            write_image(place / f"{index}.png", torch.from_numpy(picture))
            with replacing(place / f"{index}.txt") as draft:
                draft.write_text(f"{scene.caption}\n", encoding="utf-8")


def count_flops(ratio: float) -> float:
    """FLOPs of one training step, forward and backward, counted by torch."""
    net: Any = FAMILY.load_denoiser(Source(VARIANT))
    net.requires_grad_(True)
    size = FAMILY.variants[VARIANT].grid.cells(1, 32, 32)
    latents = torch.zeros(BATCH, net.config.in_channels, *size)
    text = FAMILY.embed(FAMILY.load_text(Source(VARIANT)), ["nothing"] * BATCH)
    grid = net.find_grid(latents)
    count = grid[0] * grid[1] * grid[2]
    kept = torch.arange(int(count * (1 - ratio))).expand(BATCH, -1) if ratio else None
    with FlopCounterMode(display=False) as counter, keep_tokens(kept):
        FAMILY.predict(net, latents, torch.full((BATCH,), 0.5), text).square().mean().backward()
    return float(counter.get_total_flops())


def count_steps(name: str) -> int:
    """How many steps of a run cost what `STEPS` steps with every token do."""
    if name == "full":
        return STEPS
    cost = FULL_FROM * count_flops(RATIO) / count_flops(0) + (1 - FULL_FROM)
    return round(STEPS / cost)


def make_config(out: Path, name: str, seed: int) -> Config:
    """The configuration of a run, as a file would say it."""
    steps = count_steps(name)
    tree: dict[str, Any] = {
        "model": {"family": "maskdit", "variant": VARIANT, "device": "cpu", "train": "all"},
        "data": [{"clips": out / "pictures" / "train", "resolution": 32, "caption_dropout": 0.1}],
        "optimizer": {"lr": 1e-3, "warmup": 100, "schedule": "cosine"},
        "validation": {
            "data": [{"clips": out / "pictures" / "held", "resolution": 32}],
            "every": -(-steps // CURVE),
            "t": LEVELS,
        },
        "run": {
            "output": out / "runs" / f"{name}-{seed}",
            "cache": out / "cache",
            "steps": steps,
            "batch": BATCH,
            "seed": seed,
            "save_every": 400,
            "keep": 1,
        },
    }
    if name == "masked":
        tree["patch_masking"] = {"ratio": RATIO, "full_from": FULL_FROM}
        tree["losses"] = {"reconstruction": STRENGTH}
    config = Config.model_validate(tree)
    check(config)
    return config


def run(out: Path, name: str, seed: int) -> Cell:
    """Train and measure one run, unless that was done; what stopped goes on."""
    make_pictures(out / "pictures")
    config = make_config(out, name, seed)

    def work() -> tuple[Scores, NDArray[np.uint8]]:
        model = train(config).model
        assert model is not None
        scores, pictures = measure(model)
        curve = read_curve(config, name)
        spent = {f"curve/{step}": error for step, error in curve.items()}
        return {**scores, "error": list(curve.values())[-1], **spent}, pictures

    settings = (f"steps={config.run.steps}", f"batch={BATCH}")
    return run_cell(out, PART, name, seed, settings, work)


def read_curve(config: Config, name: str) -> dict[int, float]:
    """The error on held-out pictures by the FLOPs spent, as steps of the run that sees all."""
    lines = (config.run.output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    cost = count_flops(RATIO) / count_flops(0) if name == "masked" else 1.0
    whole = FULL_FROM * config.run.steps
    curve: dict[int, float] = {}
    for line in map(json.loads, lines):
        if "validation" not in line:
            continue
        step = line["step"]
        spent = min(step, whole) * cost + max(0.0, step - whole)
        curve[round(spent)] = line["validation"]["tuned"]["loss/outside"]
    return curve


@torch.no_grad()
def measure(model: Path) -> tuple[Mapping[str, float], NDArray[np.uint8]]:
    """Every score of a trained model but its error, and its samples."""
    denoiser = FAMILY.load_denoiser(Source(VARIANT, str(model)))
    vae, text = FAMILY.load_vae(Source(VARIANT)), FAMILY.load_text(Source(VARIANT))
    scenes = draw_scenes(SAMPLES, 6, held=True)
    pictures = sample(FAMILY, Parts(VARIANT, vae, text, denoiser), [s.caption for s in scenes], 100)
    nowhere = np.zeros(pictures.shape[:3], np.float32)
    backgrounds = [scene.background for scene in scenes]
    shares = measure_backgrounds(pictures, nowhere, backgrounds)
    verdicts = correct(judge(pictures), scenes)
    scores = {"colours": float(shares["colours"].mean()), **verdicts}
    return {**scores, "weighted": measure_objective(denoiser, text, vae)}, pictures


def measure_objective(denoiser: Any, text: Any, vae: Any) -> float:
    """The weighted error on the held-out pictures, with fixed noise."""
    scenes = draw_scenes(HELD, 5, held=True)
    painted = np.stack([draw(scene)[0] for scene in scenes])
    clips = torch.from_numpy(painted).float().permute(0, 3, 1, 2)[:, :, None] / 127.5 - 1
    latents = FAMILY.encode(vae, clips)
    conditioning = FAMILY.embed(text, [scene.caption for scene in scenes])
    generator, objective, values = torch.Generator().manual_seed(7), Edm(), list[float]()
    normal = torch.distributions.Normal(LEVEL_MEAN, LEVEL_STD)
    for place in range(1, 10):
        level = torch.sigmoid(normal.icdf(torch.tensor(place / 10)))
        t = level.expand(HELD)
        noise = torch.randn(latents.shape, generator=generator)
        noisy, target = objective.corrupt(latents, noise, t)
        error = (FAMILY.predict(denoiser, noisy, t, conditioning) - target).square().mean()
        values.append(float(error * objective.weight(t)[0]))
    return float(np.mean(values))
