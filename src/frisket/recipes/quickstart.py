"""`frisket quickstart`: one subject, one loud background, four ways to train, one honest report."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from frisket.adapters import lora
from frisket.config.load import load
from frisket.disk.atomic import replacing
from frisket.evaluation.page import write_report
from frisket.families.base import FAMILIES, Parts
from frisket.media.quiet import quiet
from frisket.progress import Progress
from frisket.recipes.inspect import inspect
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.runs.background_bank import sample_bank
from frisket.runs.prepare import source_of
from frisket.runs.sampling.samples import load as load_parts
from frisket.scoring.quickstart_page import QuickstartResult, build_draft_page, build_page

MASKS = 'data.0.masks={source="folder", path="masks"}'
PRIOR = "losses.prior=0.5"
FULL = ("run.steps=300",)  # of `--full`, as measured for the README
VARIANTS: Mapping[str, tuple[str, ...]] = {
    "no_mask": (),
    "mask": (MASKS,),
    "mask_prior": (MASKS, PRIOR),
    "character": (MASKS, 'preset="character"'),
}
CONFIG = """\
# The quick start's run; `frisket train frisket.toml` repeats it by hand.
[model]
family = "pocket"
device = "cpu"

[[data]]
clips = "clips"
# masks = "masks"    the four variants differ in this line and in [losses] prior; the last has
# preset = "character" above all sections instead: prior, swap and the rest as measured

[regions]
subject = 1.0
background = 0.0

[swap]
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
class QuickstartJob:
    """One training run of one variant and one seed."""

    variant: str
    seed: int
    folder: Path  # of the seed: clips, masks, frisket.toml
    overrides: tuple[str, ...] = ()

    @property
    def output(self) -> Path:
        """Where the run and what was sampled from it lie."""
        return self.folder / self.variant


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
        QuickstartJob(variant, seed, output / f"seed-{seed}", tuple(overrides))
        for seed in range(seeds)
        for variant in VARIANTS
    ]
    for seed in range(seeds):
        make_project(output / f"seed-{seed}", seed)
    first = load(output / "seed-0" / "frisket.toml", [MASKS])
    inspect(first, output / "inspect")
    report = output / "report.html"
    results: dict[tuple[str, int], QuickstartResult] = {}

    def write(base: QuickstartResult | None) -> None:
        if base is not None and len(results) == len(jobs):
            contents = build_page(results, base, output, time.perf_counter() - began)
        else:
            contents = build_draft_page(results, base, output, len(jobs))
        write_report(report, contents)

    write(None)
    # Prepared once here: the workers then find the shared bank of backgrounds whole.
    prepare_bank(first, progress)
    base = look_at_base(first)
    write(base)
    for count, (job, result) in enumerate(_train_all(jobs, workers), 1):
        results[job.variant, job.seed] = result
        progress("training four ways", count, len(jobs))
        write(base)
    return report


def _train_all(
    jobs: Sequence[QuickstartJob], workers: int | None
) -> Iterator[tuple[QuickstartJob, QuickstartResult]]:
    """Every job with its result as it ends, in `workers` processes (one a core, 4 at most)."""
    count = workers or min(4, os.cpu_count() or 1)
    with ProcessPoolExecutor(count, get_context("spawn"), initializer=quiet) as pool:
        futures = {pool.submit(run_job, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()


def make_project(folder: Path, seed: int) -> None:
    """A folder a user could have made: clips, captions, masks and a config."""
    quickstart_data.make_clips(folder, seed)
    bank, _ = quickstart_data.backgrounds()
    prompts = "\n".join(f'  "{background.words}",' for background in bank)
    text = CONFIG.format(prompts=prompts, seed=seed)
    with replacing(folder / "frisket.toml") as draft:
        draft.write_text(text, encoding="utf-8")


def prepare_bank(config: Any, progress: Progress) -> None:
    """Sample the swap's backgrounds from the base once, for all runs."""
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    variant = family.variants[source.variant]
    sample_bank(config, family, source, (1, variant.height, variant.width), progress)


def run_job(job: QuickstartJob) -> QuickstartResult:
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
    lora.load(
        parts.denoiser,
        outcome.lora,
        prefix=family.lora_prefix,
        names=family.names,
        streams=family.streams,
    )
    return _measure(family, parts, outcome.seconds, outcome.peak_mib)


def look_at_base(config: Any) -> QuickstartResult:
    """The same measurements on the base, for the report's first row."""
    family = FAMILIES.load(config.model.family)
    return _measure(family, load_parts(family, source_of(config, family)), 0.0, 0.0)


def _measure(family: Any, parts: Parts, seconds: float, mib: float) -> QuickstartResult:
    """Scores and pictures of one model, beside what its training took."""
    scores, plain_scores, placed_scores = quickstart_data.measure(family, parts)
    return QuickstartResult(scores, seconds, mib, plain_scores, placed_scores)
