"""`python -m benchmarks.effects OUT`: run every cell that is not there, print the tables."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from benchmarks.effects import one_subject, two_subjects
from benchmarks.effects.cells import Cell, read_cell
from benchmarks.effects.methods import METHODS
from benchmarks.effects.tables import build, put_sheets, put_tables

from frisket.media.quiet import quiet

Job = tuple[str, str, int, Callable[[], Cell]]  # part, name, seed, what runs it


def list_jobs(out: Path, seeds: Sequence[int]) -> Iterator[Job]:
    """Every cell, seed by seed, so that a benchmark cut short has whole seeds."""
    yield "one", "base", 0, lambda: one_subject.run_base(out)
    for seed in seeds:
        for name in one_subject.CONFIGURATIONS:
            yield "one", name, seed, lambda name=name, seed=seed: one_subject.run(out, name, seed)
    yield "two", "base", 0, lambda: two_subjects.run_base(out)
    for seed in seeds:
        for name in METHODS:
            yield "two", name, seed, lambda name=name, seed=seed: two_subjects.run(out, name, seed)
        for kind in dict.fromkeys(method.kind for method in METHODS.values()):
            for word in two_subjects.WORDS:
                yield (
                    two_subjects.ALONE,
                    f"{kind}-{word}",
                    seed,
                    lambda kind=kind, word=word, seed=seed: two_subjects.run_alone(
                        out, kind, word, seed
                    ),
                )


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", choices=("one", "two"), help="one subject, or two")
    parser.add_argument("--cells", nargs="+", help="names of configurations and methods")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--page", type=Path, help="put the tables into this page")
    parser.add_argument("--dry", action="store_true", help="say what would be run, run nothing")
    parser.add_argument("--tables", action="store_true", help="of the cells that are there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    out, failed = options.out.resolve(), list[str]()
    for part, name, seed, work in list_jobs(out, options.seeds):
        group = "two" if part == two_subjects.ALONE else part
        if options.only not in (None, group) or (options.cells and name not in options.cells):
            continue
        known = read_cell(out, part, name, seed) is not None
        if options.tables and not known:
            continue
        if options.dry:
            sys.stdout.write(f"{'there' if known else 'to run'}  {part} {name} seed {seed}\n")
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
    if options.dry:
        return
    text = build(out, options.seeds)
    sys.stdout.write(text)
    if options.page:
        shown = ["### Samples of seed 0", "", *put_sheets(out, options.page)]
        put_tables(options.page, f"{text}\n" + "\n".join(shown))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
