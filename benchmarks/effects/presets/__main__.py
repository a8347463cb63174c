"""`python -m benchmarks.effects.presets OUT`: every cell that is not there, then the tables."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from benchmarks.effects import one_subject
from benchmarks.effects.cells import Cell, read_cell
from benchmarks.effects.presets import motion, style
from benchmarks.effects.presets.tables import BEGIN, END, build, put_sheets
from benchmarks.effects.tables import put_tables

from frisket.media.quiet import quiet

Job = tuple[str, str, int, Callable[[], Cell]]  # part, name, seed, what runs it
PARTS = {module.PART: module for module in (one_subject, style, motion)}
ORDER = (  # what is known least first, so that a benchmark cut short says most
    ("style", tuple(style.CONFIGURATIONS)),
    ("motion", tuple(motion.CONFIGURATIONS)),
    ("one", one_subject.ABLATIONS),
)


def list_jobs(out: Path, seeds: Sequence[int]) -> Iterator[Job]:
    """Every cell, seed by seed."""
    for part in ("style", "motion"):
        yield part, "base", 0, lambda part=part: PARTS[part].run(out, "base", 0)
    for seed in seeds:
        for part, names in ORDER:
            for name in names:
                yield (
                    part,
                    name,
                    seed,
                    lambda part=part, name=name, seed=seed: PARTS[part].run(out, name, seed),
                )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=tuple(PARTS))
    parser.add_argument("--cells", nargs="+", help="names of configurations")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--page", type=Path, help="put the tables into this page")
    parser.add_argument("--tables", action="store_true", help="of the cells that are there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    out, failed = options.out.resolve(), list[str]()
    for part, name, seed, work in list_jobs(out, options.seeds):
        if options.only not in (None, part) or (options.cells and name not in options.cells):
            continue
        if options.tables and read_cell(out, part, name, seed) is None:
            continue
        try:
            cell = work()
        except Exception as error:
            failed.append(name)
            sys.stderr.write(f"{part} {name} seed {seed} failed: {type(error).__name__}: {error}\n")
            continue
        scores = "  ".join(f"{key} {value:.3f}" for key, value in cell.scores.items())
        sys.stdout.write(f"{part} {name} seed {seed}: {scores}  {cell.cpu_s:.0f} s\n")
        sys.stdout.flush()
    text = build(out, options.seeds)
    sys.stdout.write(text)
    if options.page:
        shown = [
            "### Samples of the look and the motion, seed 0",
            "",
            *put_sheets(out, options.page),
        ]
        put_tables(options.page, f"{text}\n" + "\n".join(shown), begin=BEGIN, end=END)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
