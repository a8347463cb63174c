"""One subject in company: every configuration trained by its config file and measured."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.effects import bystanders
from benchmarks.effects.cells import Cell, Scores, run_cell
from numpy.typing import NDArray

from frisket.config.load import load
from frisket.disk.atomic import replacing
from frisket.families.base import FAMILIES, Parts
from frisket.recipes.quickstart import CONFIG, MASKS, PRIOR, prepare_bank
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.runs.prepare import source_of
from frisket.runs.sampling.sampler import load_sampler

PART = "one"
STEPS = "run.steps=300"
SWAP = (MASKS, PRIOR, "swap.rate=0.5")
ATTENTION = (
    'regions.subject={weight=1.0, phrase="sks"}',
    'losses.attention={strength=0.01, form="ratio"}',
)
T_LORA = ('lora.rank_schedule="t-lora"', "lora.rank_min=8", "lora.rank_power=1.0")
CONFIGURATIONS: Mapping[str, tuple[str, ...]] = {
    "unmasked": (),  # a control, added when no row had a phantom: can the metric see one?
    "floor": (MASKS, "curve.floor=0.05"),
    "mask": (MASKS,),
    "prior": (MASKS, PRIOR),
    "swap": SWAP,
    "attention": (*SWAP, *ATTENTION),
    "tlora": (*SWAP, *T_LORA),
    "best": (*SWAP, *ATTENTION, *T_LORA),
    # The `character` preset is `swap`; these take one part of it away, or change one.
    "no-prior": (MASKS, "swap.rate=0.5"),
    "early": (*SWAP, 'timesteps.emphasis="content"'),
    "late": (*SWAP, 'timesteps.emphasis="style"'),
    "rank-4": (*SWAP, "lora.rank=4"),
}
ABLATIONS = ("no-prior", "early", "late", "rank-4")
COLUMNS = ("leak", "fidelity", "found", "drift", "phantom", "stray")
BASELINES = {
    "unmasked": "mask",
    "floor": "mask",
    "prior": "mask",
    "swap": "prior",
    "attention": "swap",
    "tlora": "swap",
    "best": "swap",
    **dict.fromkeys(ABLATIONS, "swap"),
}


def make_project(folder: Path, seed: int) -> Path:
    """Clips with the bystander, masks and the quick start's config; returns the config file."""
    path = folder / "frisket.toml"
    if not path.is_file():
        bystanders.make_clips(folder, seed)
        bank, _ = quickstart_data.backgrounds()
        prompts = "\n".join(f'  "{background.words}",' for background in bank)
        with replacing(path) as draft:
            draft.write_text(CONFIG.format(prompts=prompts, seed=seed), encoding="utf-8")
    return path


def run(out: Path, name: str, seed: int) -> Cell:
    """Train `name` at `seed` and measure it, unless that was done."""
    settings = (STEPS, f"run.output={json.dumps(name)}", *CONFIGURATIONS[name])

    def work() -> tuple[Scores, NDArray[np.uint8]]:
        config = load(make_project(out / PART / f"seed-{seed}", seed), settings)
        prepare_bank(config, lambda *_: None)
        return measure(config, train(config).lora)

    return run_cell(out, PART, name, seed, settings, work)


def run_base(out: Path) -> Cell:
    """The packaged base, measured in the same way."""

    def work() -> tuple[Scores, NDArray[np.uint8]]:
        return measure(load(make_project(out / PART / "seed-0", 0), (MASKS,)), None)

    return run_cell(out, PART, "base", 0, (), work)


def load_parts(config: Any, loras: tuple[tuple[Path, float], ...]) -> Parts:
    """All parts, with the adapters as `frisket generate` loads them."""
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    parts = load_sampler(family, source, lora=loras)
    parts.text = family.load_text(source)
    return parts


def measure(config: Any, lora: Path | None) -> tuple[Scores, NDArray[np.uint8]]:
    """Every score of the protocol, and the samples: 8 plain, then all on new backgrounds."""
    family = FAMILIES.load(config.model.family)
    parts = load_parts(config, ((lora, 1.0),) if lora else ())
    scores, plain, placed = quickstart_data.measure(family, parts)
    _, fresh = quickstart_data.backgrounds()
    phantoms = bystanders.find_phantoms(placed, fresh)
    return asdict(scores) | phantoms, np.concatenate([plain[:8], placed])
