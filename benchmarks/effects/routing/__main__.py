"""`python -m benchmarks.effects.routing OUT`: every cell that is not there, then the table."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from benchmarks.effects.cells import Cell, read_cell
from benchmarks.effects.routing.configurations import (
    CONFIGURATIONS,
    PART,
    run,
    run_base,
    run_count,
)
from benchmarks.effects.routing.tables import BEGIN, END, build
from benchmarks.effects.tables import put_tables

from frisket.media.quiet import quiet

Job = tuple[str, str, int, Callable[[], Cell]]  # part, name, seed, what runs it


def list_jobs(out: Path, seeds: Sequence[int]) -> Iterator[Job]:
    """Every cell, seed by seed; the FLOPs last."""
    yield PART, "base", 0, partial(run_base, out)
    for seed in seeds:
        for name in CONFIGURATIONS:
            yield PART, name, seed, partial(run, out, name, seed)
    for name in CONFIGURATIONS:
        yield f"{PART}-flops", name, 0, partial(run_count, out, name)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cells", nargs="+", help="names of configurations")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--page", type=Path, help="put the table into this page")
    parser.add_argument("--tables", action="store_true", help="of the cells that are there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    out, failed = options.out.resolve(), list[str]()
    for part, name, seed, work in list_jobs(out, options.seeds):
        if options.cells and name not in options.cells:
            continue
        if options.tables and read_cell(out, part, name, seed) is None:
            continue
        try:
            cell = work()
        except Exception as error:
            failed.append(name)
            sys.stderr.write(f"{part} {name} seed {seed} failed: {type(error).__name__}: {error}\n")
            continue
        scores = "  ".join(f"{key} {value:.4f}" for key, value in cell.scores.items())
        sys.stdout.write(f"{part} {name} seed {seed}: {scores}  {cell.cpu_s:.0f} s\n")
        sys.stdout.flush()
    text = build(out, options.seeds)
    sys.stdout.write(text)
    if options.page:
        put_tables(options.page, text, begin=BEGIN, end=END)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
