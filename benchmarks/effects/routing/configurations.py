"""Rows of the routing table: the subject in company on the pocket transformer, by config."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.effects import bystanders
from benchmarks.effects.cells import Cell, Scores, run_cell
from benchmarks.effects.one_subject import STEPS, SWAP, load_parts, make_project
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from frisket.config.load import load
from frisket.families.base import FAMILIES, Parts
from frisket.losses.base import weighted_mse
from frisket.masks.coverage import to_latent
from frisket.pocket.world import random_creature
from frisket.recipes.quickstart import prepare_bank
from frisket.recipes.train import train
from frisket.runs import quickstart_data

PART = "routing"
MODEL = ('model.variant="dit"',)
# A token is an eighth of the picture's side here: grown by one token, the largest creature of a
# batch keeps 50 of 64, and nothing would be left to measure.
ROUTED = ("routing.dilate=0", "routing.multiple=4")
CONFIGURATIONS: Mapping[str, tuple[str, ...]] = {
    "full": (),
    "half": ("routing.background=0.5", *ROUTED),
    "quarter": ("routing.background=0.25", *ROUTED),
    "tenth": ("routing.background=0.1", *ROUTED),
    "twentieth": ("routing.background=0.05", *ROUTED),
    "always": (
        "routing.background=0.25",
        "routing.full_step_probability=0.0",
        "routing.full_from=1.0",
        *ROUTED,
    ),
}
COLUMNS = ("inside", "fidelity", "found", "leak", "drift", "train_s")
HELD_OUT, LEVELS = 32, (0.2, 0.35, 0.55, 0.75, 0.9)
COUNTED = 60  # steps whose FLOPs are counted


def run(out: Path, name: str, seed: int) -> Cell:
    """Train `name` at `seed` and measure it, unless that was done."""
    settings = (STEPS, f"run.output={json.dumps(f'dit-{name}')}", *MODEL, *SWAP)
    settings += CONFIGURATIONS[name]

    def work() -> tuple[Scores, NDArray[np.uint8]]:
        config = load(make_project(out / PART / f"seed-{seed}", seed), settings)
        prepare_bank(config, lambda *_: None)
        began = time.process_time()
        lora = train(config).lora
        seconds = time.process_time() - began
        scores, pictures = measure(config, lora)
        return {**scores, "train_s": seconds}, pictures

    return run_cell(out, PART, name, seed, settings, work)


def run_base(out: Path) -> Cell:
    """The packaged transformer, measured in the same way."""

    def work() -> tuple[Scores, NDArray[np.uint8]]:
        config = load(make_project(out / PART / "seed-0", 0), (*MODEL, *SWAP))
        scores, pictures = measure(config, None)
        return {**scores, "train_s": 0.0}, pictures

    return run_cell(out, PART, "base", 0, (), work)


def run_count(out: Path, name: str) -> Cell:
    """FLOPs (matrix products, forward and backward) of COUNTED steps of `name` at seed 0."""
    folder = json.dumps(f"dit-{name}-counted")
    settings = (f"run.steps={COUNTED}", f"run.output={folder}", *MODEL, *SWAP)
    settings += CONFIGURATIONS[name]

    def work() -> tuple[Scores, NDArray[np.uint8]]:
        config = load(make_project(out / PART / "seed-0", 0), settings)
        prepare_bank(config, lambda *_: None)
        with FlopCounterMode(display=False) as counter:
            train(config)
        return {"tflops": counter.get_total_flops() / 1e12}, np.zeros((1, 32, 32, 3), np.uint8)

    return run_cell(out, f"{PART}-flops", name, 0, settings, work)


def measure(config: Any, lora: Path | None) -> tuple[Scores, NDArray[np.uint8]]:
    """Every score of the protocol, and the samples: 8 plain, then all on new backgrounds."""
    family = FAMILIES.load(config.model.family)
    parts = load_parts(config, ((lora, 1.0),) if lora else ())
    scores, plain, placed = quickstart_data.measure(family, parts)
    _, fresh = quickstart_data.backgrounds()
    phantoms = bystanders.find_phantoms(placed, fresh)
    inside = {"inside": measure_inside(family, parts)}
    return asdict(scores) | phantoms | inside, np.concatenate([plain[:8], placed])


@torch.no_grad()
def measure_inside(family: Any, parts: Parts) -> float:
    """Mean squared error of the prediction within the creature, all tokens carried.

    HELD_OUT pictures in company that no seed trains on, caption "sks", at LEVELS; the same noise in
    every cell.
    """
    rng = np.random.RandomState(5077)
    drawn = (bystanders.draw_company(random_creature(rng), rng)[:2] for _ in count())
    pictures, covers = zip(*islice(drawn, HELD_OUT), strict=True)
    clip = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)[:, :, None].float()
    clean = family.encode(parts.vae, clip / 127.5 - 1)
    grid = family.variants[parts.variant].grid
    planes = torch.from_numpy(np.stack(covers)).float()[:, None, None]  # n 1 1 H W
    weights = torch.stack([to_latent(plane, grid, "mean") for plane in planes])
    conditioning = family.embed(parts.text, ["sks"] * HELD_OUT)
    objective = family.objective(parts.variant)
    generator = torch.Generator().manual_seed(5)
    errors = []
    for level in LEVELS:
        noise = torch.randn(clean.shape, generator=generator)
        t = torch.full((HELD_OUT,), level)
        noisy, target = objective.corrupt(clean, noise, t)
        prediction = family.predict(parts.denoiser, noisy, t, conditioning)
        errors.append(float(weighted_mse(prediction, target, weights).mean()))
    return float(np.mean(errors))
