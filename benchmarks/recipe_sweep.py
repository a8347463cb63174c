"""Which prior strength, swap rate and bank size are best on the quick start's subject.

    .venv/bin/python benchmarks/recipe_sweep.py OUT [--seeds 2] [name ...]

Every row is the quick start's full recipe with the changes named; the measurements are those of
`frisket.runs.quickstart_data`, fixed beforehand. Prints a markdown table, one row as it is done.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean

from frisket.config.load import load
from frisket.recipes.quickstart import MASKS, QuickstartJob, make_project, prepare_bank, run_job
from frisket.runs import quickstart_data

FULL = (MASKS, "losses.prior=0.3", "swap.rate=0.5")
FULL_RUN = (MASKS, "losses.prior=0.5", "swap.rate=0.5", "run.steps=300")  # quickstart --full
MIXES = ("mix.rate=0.3", 'mix.ground="swap"', "mix.variants=16")


def bank(size: int) -> str:
    """The first `size` backgrounds of the bank, patterns mixed."""
    known, _ = quickstart_data.backgrounds()
    step = len(known) / size
    chosen = [known[int(index * step)].words for index in range(size)]
    return f"swap.prompts={json.dumps(chosen)}"


ROWS: dict[str, tuple[str, ...]] = {
    "prior 0.5": (*FULL, "losses.prior=0.5"),
    "mask + prior 0.5, no swap": (MASKS, "losses.prior=0.5"),
    "full (prior 0.3, rate 0.5, bank 24)": FULL,
    "prior 0.1": (*FULL, "losses.prior=0.1"),
    "prior 1.0": (*FULL, "losses.prior=1.0"),
    "prior 0.3 fading (t_power 1)": (*FULL, "losses.prior={strength=0.3, t_power=1.0}"),
    "no prior": (*FULL, "losses.prior=0.0"),
    "rate 0.25": (*FULL, "swap.rate=0.25"),
    "rate 0.75": (*FULL, "swap.rate=0.75"),
    "rate 1.0": (*FULL, "swap.rate=1.0"),
    "bank 4": (*FULL, bank(4)),
    "bank 12": (*FULL, bank(12)),
    "composites a clip: 4": (*FULL, "swap.variants=4"),
    "flat and drawn backgrounds": (*FULL, 'swap.source="noise"'),
    "swap, no prior, no mask in the loss": (*FULL, "losses.prior=0.0", "regions.background=1.0"),
    "floor 0.05, mask only": (MASKS, "curve.floor=0.05"),
    "mask only, 600 steps": (MASKS, "run.steps=600"),
    "pixel swap, 300 steps": FULL_RUN,
    "latent swap, 300 steps": (*FULL_RUN, 'swap.space="latent"'),
    "mixes 0.3 and pixel swap, 300 steps": (*FULL_RUN, *MIXES),
    "mixes 0.3 and latent swap, both in latents, 300 steps": (
        *(*FULL_RUN, *MIXES, 'swap.space="latent"', 'mix.space="latent"'),
    ),
}


def main() -> None:
    """Run the rows asked for, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    for seed in range(options.seeds):
        make_project(options.out / f"seed-{seed}", seed)
    prepare_bank(load(options.out / "seed-0" / "frisket.toml", [MASKS]), lambda *_: None)
    chosen = {name: ROWS[name] for name in options.names or ROWS}
    print("| run | found | subject | background | strict | leak | fidelity dB | drift | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    workers = min(4, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {
            name: [
                pool.submit(
                    run_job, QuickstartJob(name, seed, options.out / f"seed-{seed}", overrides)
                )
                for seed in range(options.seeds)
            ]
            for name, overrides in chosen.items()
        }
        for name, waiting in futures.items():
            results = [future.result() for future in waiting]
            rows = [asdict(result.scores) for result in results]
            cells = [
                " / ".join(f"{row[key]:.{digits}f}" for row in rows)
                for key, digits in (
                    ("found", 2),
                    ("subject", 2),
                    ("background", 2),
                    ("strict", 2),
                    ("leak", 3),
                    ("fidelity", 1),
                    ("drift", 3),
                )
            ]
            seconds = fmean(result.seconds for result in results)
            print(f"| {name} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
