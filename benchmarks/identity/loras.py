"""LoRAs of the held-out people by `frisket train`, alone and beside the image adapter."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.effects.cells import Cell, Scores, run_cell
from benchmarks.identity.adapters import FAMILY
from benchmarks.identity.people import HELD_OUT, sample_portrait, write_portraits
from benchmarks.identity.reading import Pictures
from benchmarks.identity.rows import Bench, Job
from benchmarks.identity.samples import Ask, list_asks, sample_pictures, score_pictures

from frisket.config.load import check
from frisket.config.tree import Config
from frisket.families.base import Parts
from frisket.inference.methods.base import Method
from frisket.recipes.train import train
from frisket.runs.prepare import source_of
from frisket.runs.sampling.sampler import load_sampler

PEOPLE = HELD_OUT[:3]
WORD = "sks"
PICTURES, STEPS, BATCH, RATE, RANK = 12, 200, 4, 1e-3, 8
EACH = 8  # pictures of a person in a cell
TERM_PEOPLE, TERM_EACH = PEOPLE[:1], 16
TERM = {"strength": 0.1, "embedder": "tiny", "region": "subject"}  # of losses.identity
TERMS = {"off": None, "on": {"identity": TERM}}
BESIDE = {"lora": 0.0, "both-0.5": 0.5, "both-1": 1.0}  # scale of the adapter beside the LoRA


def make_config(bench: Bench, person: int, seed: int, name: str, terms: Any = None) -> Config:
    """The run of one person; `terms` is the table of losses."""
    folder = bench.out / "people" / str(person)
    portraits = [
        sample_portrait(np.random.RandomState(7_000 + index), person) for index in range(PICTURES)
    ]
    captions = [portrait.caption.replace("a person", WORD) for portrait in portraits]
    write_portraits(folder, portraits, captions)
    tree: dict[str, Any] = {
        "model": {
            "family": "pocket",
            "variant": "image",
            "device": "cpu",
            "source": str(bench.out / "base" / "model"),
        },
        "data": [{"clips": folder / "clips", "masks": folder / "masks", "resolution": 32}],
        "regions": {"subject": 1.0, "background": 0.0},
        "lora": {"rank": RANK},
        "optimizer": {"lr": RATE, "warmup": 20, "schedule": "linear", "final": 0.1},
        "run": {
            "output": bench.out / "runs" / f"{name}-{person}-{seed}",
            "cache": bench.out / "cache",
            "steps": STEPS,
            "batch": BATCH,
            "seed": seed,
            "save_every": 0,
            "threads": 1,
        },
    }
    if terms:
        tree["losses"] = terms
    config = Config.model_validate(tree)
    check(config)
    return config


def train_lora(config: Config) -> Path:
    """The adapter of a run, trained where it is not there yet."""
    path = config.run.output / "lora.safetensors"
    if path.is_file():
        return path
    lora = train(config).lora
    assert lora is not None
    return lora


def sample_with_lora(
    bench: Bench,
    config: Config,
    asks: Sequence[Ask],
    make_method: Callable[[Parts], Method | None],
) -> Pictures:
    """The asks of one person with the LoRA of a run; `make_method` gives what joins it."""
    source = source_of(config, FAMILY)
    parts = load_sampler(FAMILY, source, lora=((train_lora(config), 1.0),))
    parts.text = bench.parts.text
    prompts = [ask.write(WORD) for ask in asks]
    return sample_pictures(parts, asks, prompts, make_method(parts))


def run_beside(bench: Bench, seed: int, name: str) -> Cell:
    """LoRA alone or with the adapter, or the adapter alone (`adapter`), on three people."""
    asks = list_asks(seed, PEOPLE, EACH)

    def work() -> tuple[Scores, Pictures]:
        if name == "adapter":
            method = bench.wear(seed, asks)
            pictures = sample_pictures(bench.parts, asks, [ask.write() for ask in asks], method)
            return score_pictures(bench.reader, pictures, asks), pictures
        sheets = []
        for person in PEOPLE:
            own = [ask for ask in asks if ask.person == person]
            config = make_config(bench, person, seed, "lora")

            def join(parts: Parts, own: list[Ask] = own) -> Method | None:
                scale = BESIDE[name]
                return bench.wear(seed, own, model=parts.denoiser, scale=scale) if scale else None

            sheets.append(sample_with_lora(bench, config, own, join))
        pictures = np.concatenate(sheets)
        return score_pictures(bench.reader, pictures, asks), pictures

    return run_cell(bench.out, "both", name, seed, (), work)


def run_term(bench: Bench, seed: int, name: str) -> Cell:
    """LoRAs without the identity term (those of `both`) and with it, of TERM_PEOPLE."""
    asks = list_asks(seed, TERM_PEOPLE, TERM_EACH)

    def work() -> tuple[Scores, Pictures]:
        sheets = []
        for person in TERM_PEOPLE:
            own = [ask for ask in asks if ask.person == person]
            terms = TERMS[name]
            config = make_config(bench, person, seed, "term" if terms else "lora", terms)
            sheets.append(sample_with_lora(bench, config, own, lambda _: None))
        pictures = np.concatenate(sheets)
        return score_pictures(bench.reader, pictures, asks), pictures

    return run_cell(bench.out, "term", name, seed, (), work)


def list_jobs(bench: Bench, seeds: Sequence[int]) -> list[Job]:
    """Every cell of LoRAs, seed by seed."""
    jobs: list[Job] = []
    for seed in seeds:
        for name in ("adapter", *BESIDE):
            jobs.append(("both", name, seed, partial(run_beside, bench, seed, name)))
        jobs += [("term", name, seed, partial(run_term, bench, seed, name)) for name in TERMS]
    return jobs
