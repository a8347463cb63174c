"""`frisket quickstart`: one subject, one loud background, four ways to train, one honest report."""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from frisket.adapters import lora
from frisket.config.load import load
from frisket.disk.atomic import replacing
from frisket.evaluation.page import (
    Claim,
    Column,
    Figure,
    Report,
    Row,
    Section,
    Table,
    write_report,
)
from frisket.families.base import FAMILIES, Parts
from frisket.media.quiet import quiet
from frisket.progress import Progress
from frisket.recipes.inspect import inspect
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.runs.background_bank import sample_bank
from frisket.runs.prepare import source_of
from frisket.runs.samples import load as load_parts

MASKS = 'data.0.masks={source="folder", path="masks"}'
PRIOR = "losses.prior=0.5"
FULL = ("run.steps=300",)  # of `--full`, as measured for the README
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "no_mask": (),
    "mask": (MASKS,),
    "mask_prior": (MASKS, PRIOR),
    "mask_prior_swap": (MASKS, PRIOR, "swap.rate=0.5"),
}
TITLES = {
    "base": "the base, untouched",
    "no_mask": "no mask",
    "mask": "mask",
    "mask_prior": "mask + prior",
    "mask_prior_swap": "mask + prior + background swap",
}
CONFIG = """\
# The quick start's run; `frisket train frisket.toml` repeats it by hand.
[model]
family = "pocket"
device = "cpu"

[[data]]
clips = "clips"
# masks = "masks"    the four variants differ in this line, [losses] prior and [swap] rate

[regions]
subject = 1.0
background = 0.0

[swap]
rate = 0.0
variants = 16
prompts = [
{prompts}
]

[lora]
rank = 16

[optimizer]
lr = 1e-3
schedule = "linear"
final = 0.1
warmup = 20

[run]
steps = 150
batch = 8
seed = {seed}
output = "run"
cache = "../cache"
save_every = 0
threads = 1
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One training run of one variant and one seed."""

    variant: str
    seed: int
    folder: Path  # of the seed: clips, masks, frisket.toml
    overrides: tuple[str, ...] = ()

    @property
    def output(self) -> Path:
        """Where the run and what was sampled from it lie."""
        return self.folder / self.variant


@dataclass(frozen=True, slots=True)
class Result:
    """What a job measured, with its pictures."""

    scores: quickstart_data.Scores
    seconds: float
    mib: float
    plain: quickstart_data.Pictures
    placed: quickstart_data.Pictures


def quickstart(
    output: Path,
    *,
    seeds: int = 1,
    workers: int | None = None,
    overrides: Sequence[str] = (),
    progress: Progress = lambda *_: None,
) -> Path:
    """Make the data, train every variant for every seed, measure, and write `output`/report.html.

    `workers` processes of one thread each (as many as there are cores, 4 at most). `overrides` are
    `a.b=c` settings laid over every run. The page is there at once, and filled as runs end. Returns
    its path.
    """
    began = time.perf_counter()
    jobs = [
        Job(variant, seed, output / f"seed-{seed}", tuple(overrides))
        for seed in range(seeds)
        for variant in VARIANTS
    ]
    for seed in range(seeds):
        make_project(output / f"seed-{seed}", seed)
    first = load(output / "seed-0" / "frisket.toml", [MASKS])
    inspect(first, output / "inspect")
    report = output / "report.html"
    results: dict[tuple[str, int], Result] = {}

    def write(base: Result | None) -> None:
        whole = len(results) == len(jobs)
        spent = time.perf_counter() - began
        made = (
            page(results, base, output, spent)
            if whole and base
            else begun(results, base, output, len(jobs))
        )
        write_report(report, made)

    write(None)
    # Prepared once here: the workers then find the shared bank of backgrounds whole.
    prepare_bank(first, progress)
    base = look_at_base(first)
    write(base)
    count = workers or min(4, os.cpu_count() or 1)
    with ProcessPoolExecutor(count, get_context("spawn"), initializer=quiet) as pool:
        futures = {pool.submit(run, job): job for job in jobs}
        for done, future in enumerate(as_completed(futures), 1):
            job = futures[future]
            results[job.variant, job.seed] = future.result()
            progress("training four ways", done, len(jobs))
            write(base)
    return report


def make_project(folder: Path, seed: int) -> None:
    """A folder a user could have made: clips, captions, masks and a config."""
    quickstart_data.make_clips(folder, seed)
    bank, _ = quickstart_data.backgrounds()
    prompts = "\n".join(f'  "{each.words}",' for each in bank)
    text = CONFIG.format(prompts=prompts, seed=seed)
    with replacing(folder / "frisket.toml") as draft:
        draft.write_text(text, encoding="utf-8")


def prepare_bank(config: Any, progress: Progress) -> None:
    """Sample the swap's backgrounds from the base once, for all runs."""
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    variant = family.variants[source.variant]
    sample_bank(config, family, source, (1, variant.height, variant.width), progress)


def run(job: Job) -> Result:
    """Train one variant and measure it; runs in a process of its own."""
    torch.set_num_threads(1)
    settings = (
        f"run.output={json.dumps(job.variant)}",
        *VARIANTS.get(job.variant, ()),
        *job.overrides,
    )
    config = load(job.folder / "frisket.toml", settings)
    outcome = train(config)
    family = FAMILIES.load(config.model.family)
    parts = load_parts(family, source_of(config, family))
    assert parts.denoiser is not None
    lora.load(parts.denoiser, outcome.lora, prefix=family.lora_prefix, names=family.names)
    return Result(*measured(family, parts, outcome.seconds, outcome.peak_mib))


def measured(family: Any, parts: Parts, seconds: float, mib: float) -> tuple[Any, ...]:
    """Scores and pictures of one model, in the order of Result's fields."""
    scores, plain, placed = quickstart_data.measure(family, parts)
    return scores, seconds, mib, plain, placed


def look_at_base(config: Any) -> Result:
    """The same measurements on the base, for the report's first row."""
    family = FAMILIES.load(config.model.family)
    parts = load_parts(family, source_of(config, family))
    return Result(*measured(family, parts, 0.0, 0.0))


COLUMNS = (
    Column("leak", "Orange and purple where nobody asked for them.", "low", ".3f"),
    Column("fidelity", "PSNR of the subject inside its mask, dB.", "high", ".1f"),
    Column("found", "Right subject on the right NEW background.", "high", ".0%"),
    Column("drift", "How far the rest of the model moved.", "low", ".3f"),
    Column("seconds", "CPU time of training.", "low", ".0f"),
    Column("mib", "Largest memory of the process.", "low", ".0f"),
)


def page(
    results: Mapping[tuple[str, int], Result], base: Result, output: Path, wall: float
) -> Report:
    """The report: pictures first, then the table, then what was claimed and what came out."""
    seeds = sorted({seed for _, seed in results})
    table = {
        name: {
            "leak": [results[name, seed].scores.leak for seed in seeds],
            "fidelity": [results[name, seed].scores.fidelity for seed in seeds],
            "found": [results[name, seed].scores.found for seed in seeds],
            "drift": [results[name, seed].scores.drift for seed in seeds],
            "seconds": [results[name, seed].seconds for seed in seeds],
            "mib": [results[name, seed].mib for seed in seeds],
        }
        for name in VARIANTS
    }
    mean = {
        name: {key: fmean(values) for key, values in row.items()} for name, row in table.items()
    }
    claims = claims_of(mean)
    rows = [Row(TITLES[name], row) for name, row in table.items()]
    untouched = {key: (float(getattr(base.scores, key)),) for key in ("leak", "fidelity", "found")}
    rows.insert(0, Row(TITLES["base"], untouched))
    data = {
        "verdict": verdict_of(mean),
        "variants": table,
        "details": {
            name: [asdict(results[name, seed].scores) for seed in seeds] for name in VARIANTS
        },
        "base": asdict(base.scores),
        "claims": [asdict(claim) for claim in claims],
        "wall_seconds": round(wall, 1),
    }
    return Report(
        title="Teach the model this, and only this",
        verdict=verdict_of(mean),
        sections=[
            training_section(output),
            pictures(results, base, seeds[0]),
            Section(
                "The numbers", tables=[Table("Mean over seeds, each seed below", COLUMNS, rows)]
            ),
        ],
        claims=claims,
        footer={
            "frisket": version("frisket"),
            "torch": torch.__version__,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
            "seeds": ", ".join(map(str, seeds)),
            "whole run": f"{wall:.0f} s",
        },
        data=data,
    )


def begun(
    results: Mapping[tuple[str, int], Result], base: Result | None, output: Path, jobs: int
) -> Report:
    """The page while runs go on: the data, and what was sampled so far."""
    sections = [training_section(output)]
    if base is not None:
        first = min((seed for _, seed in results), default=0)
        sections.append(pictures(results, base, first))
    return Report(
        title="Teach the model this, and only this",
        verdict=f"{len(results)} of {jobs} trainings are done; this page fills while they run.",
        sections=sections,
        refresh=True,
    )


def claims_of(mean: Mapping[str, Mapping[str, float]]) -> list[Claim]:
    """What the quick start is to show; fixed before any result was looked at."""
    leaks = mean["no_mask"]["leak"] / max(mean["mask"]["leak"], 1e-6)
    cut = 1 - mean["mask_prior"]["drift"] / mean["mask"]["drift"]
    found = mean["mask_prior_swap"]["found"]
    return [
        Claim(
            "Without a mask the background leaks at least 4x as much as with one.",
            f"{leaks:.1f}x",
            leaks >= 4,
        ),
        Claim(
            "The prior cuts drift by at least 40 % against the mask alone.",
            f"{cut:.0%}",
            cut >= 0.4,
        ),
        Claim(
            "The full recipe finds the subject on at least 80 % of new backgrounds.",
            f"{found:.0%}",
            found >= 0.8,
        ),
    ]


def verdict_of(mean: Mapping[str, Mapping[str, float]]) -> str:
    """One line a beginner understands; it praises nothing that was not shown."""
    leaks = mean["no_mask"]["leak"] / max(mean["mask"]["leak"], 1e-6)
    alone, full = mean["mask"]["found"], mean["mask_prior_swap"]["found"]
    worked = "The mask worked" if leaks >= 4 else "The mask was not shown to work"
    return (
        f"{worked}: without it the background was learnt {leaks:.1f}x as much. The mask alone finds"
        f" the subject on {alone:.0%} of new backgrounds; with the prior and the background swap it"
        f" is {full:.0%}."
    )


def training_section(output: Path) -> Section:
    """The training clips and masks as `frisket inspect` shows them."""
    sheets = sorted((output / "inspect").glob("*.png"))
    figures = (
        [
            Figure(
                "What the model is taught: 8 clips, their masks, the weights on the latent grid.",
                sheets[0].read_bytes(),
            )
        ]
        if sheets
        else []
    )
    return Section(
        "The data",
        "A creature the base has never seen, always on one loud zig-zag it has never seen either."
        ' Every caption is just "sks".',
        figures=figures,
    )


def pictures(results: Mapping[tuple[str, int], Result], base: Result, seed: int) -> Section:
    """Sample grids of every variant, same prompts, same seeds."""
    there = {name: results[name, seed] for name in VARIANTS if (name, seed) in results}
    shown = {"base": base, **there}
    figures = []
    for name, result in shown.items():
        sheet = np.concatenate(
            [row_of(result.plain[:12]), row_of(result.placed[:12]), row_of(result.placed[12:24])]
        )
        figures.append(
            Figure(
                TITLES[name], sheet, 'first row: "sks"; below: "sks on ..." new backgrounds', 860
            )
        )
    return Section(
        "What it learnt",
        "The same prompts and seeds for all. The first row names no background: what appears there"
        " besides the creature was learnt with it. The rows below ask for backgrounds the creature"
        " was never seen on.",
        figures=figures,
    )


def row_of(pictures: quickstart_data.Pictures) -> quickstart_data.Pictures:
    """Pictures side by side with a grey seam, enlarged twice with hard pixels."""
    height = pictures.shape[1]
    seam = np.full((height, 2, 3), 128, np.uint8)
    parts = [part for picture in pictures for part in (picture, seam)][:-1]
    row = np.concatenate(parts, axis=1)
    row = np.concatenate([row, np.full((2, row.shape[1], 3), 128, np.uint8)])
    return row.repeat(2, axis=0).repeat(2, axis=1)
