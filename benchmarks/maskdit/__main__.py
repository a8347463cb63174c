"""`python -m benchmarks.maskdit OUT`: every run that is not there, then the page's table and curve.

Takes about ten CPU minutes a seed. A run that was stopped goes on where it was.
"""

import argparse
import sys
from pathlib import Path

import torch
from benchmarks.maskdit.comparison import NAMES, run
from benchmarks.maskdit.page import list_cells, write_page

from frisket.media.quiet import quiet


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--page", type=Path, help="put the table and the curve into this page")
    parser.add_argument("--tables", action="store_true", help="of the runs that are there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    out = options.out.resolve()
    for seed in () if options.tables else options.seeds:
        for name in NAMES:
            cell = run(out, name, seed)
            scores = "  ".join(f"{key} {value:.4f}" for key, value in cell.scores.items())
            sys.stdout.write(f"{name} seed {seed}: {scores}  {cell.cpu_s:.0f} s\n")
            sys.stdout.flush()
    cells = list_cells(out, options.seeds)
    if options.page and cells:
        write_page(options.page.resolve(), cells)


if __name__ == "__main__":
    main()
