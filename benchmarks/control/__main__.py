"""`python -m benchmarks.control OUT`: every cell that is not there, then the tables."""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from benchmarks.control import consistency, pose
from benchmarks.control.tables import BEGIN, END, SHEETS, build, put_sheets
from benchmarks.effects.cells import Cell
from benchmarks.effects.tables import put_tables

from frisket.media.quiet import quiet

Job = tuple[str, str, int, Callable[[], Cell]]


def list_jobs(out: Path, seeds: Sequence[int]) -> list[Job]:
    """Every cell, seed by seed: part, row, seed and the work."""
    jobs: list[Job] = []
    for seed in seeds:
        for name in ("off", "on"):
            jobs.append((pose.TOOLS, name, seed, partial(pose.run_tools, out, name, seed)))
        for name in pose.ROWS:
            jobs.append((pose.PART, name, seed, partial(pose.run_row, out, name, seed)))
        for name in ("base", *consistency.ROWS):
            work = partial(consistency.run_row, out, name, seed)
            jobs.append((consistency.PART, name, seed, work))
    return jobs


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", nargs="+", help="tools, pose, consistency")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--page", type=Path, help="put the tables into this page")
    parser.add_argument("--tables", action="store_true", help="of the cells that are there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    out = options.out.resolve()
    jobs = [] if options.tables else list_jobs(out, options.seeds)
    for part, name, seed, work in jobs:
        if options.parts and part not in options.parts:
            continue
        cell = work()
        scores = "  ".join(f"{key} {value:.4f}" for key, value in cell.scores.items())
        sys.stdout.write(f"{part} {name} seed {seed}: {scores}  {cell.cpu_s:.0f} s\n")
        sys.stdout.flush()
    text = build(out, options.seeds)
    sys.stdout.write(text)
    if options.page:
        text = f"{text}\n{put_sheets(out, options.page, 'control', SHEETS)}"
        put_tables(options.page, text, begin=BEGIN, end=END)


if __name__ == "__main__":
    main()
