"""`python -m benchmarks.identity OUT`: every cell that is not there, then the tables."""

import argparse
import sys
from pathlib import Path

import torch
from benchmarks.effects.cells import read_cell
from benchmarks.effects.tables import put_tables
from benchmarks.identity import loras, posing, rows, taught
from benchmarks.identity.tables import BEGIN, END, build, put_sheets

from frisket.media.quiet import quiet


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", nargs="+", help="of the tables")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--page", type=Path, help="put the tables into this page")
    parser.add_argument("--tables", action="store_true", help="of the cells that are there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    out, failed = options.out.resolve(), list[str]()
    if not options.tables:
        bench = rows.open_bench(out)
        jobs = [
            job
            for seed in options.seeds
            for part in (rows, loras, posing, taught)
            for job in part.list_jobs(bench, [seed])
        ]
        for part, name, seed, work in jobs:
            if options.parts and part not in options.parts:
                continue
            known = read_cell(out, part, name, seed) is not None
            try:
                cell = work()
            except Exception as error:
                failed.append(name)
                message = f"{type(error).__name__}: {error}"
                sys.stderr.write(f"{part} {name} seed {seed} failed: {message}\n")
                continue
            scores = "  ".join(f"{key} {value:.3f}" for key, value in cell.scores.items())
            line = f"{part} {name} seed {seed}: {scores}  {cell.cpu_s:.0f} s"
            sys.stdout.write(f"{line}{' (known)' if known else ''}\n")
            sys.stdout.flush()
    text = build(out, options.seeds)
    sys.stdout.write(text)
    if options.page:
        text = f"{text}\n{put_sheets(out, options.page)}"
        put_tables(options.page, text, begin=BEGIN, end=END)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
