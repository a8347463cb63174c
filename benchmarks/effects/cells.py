"""A cell: one configuration or method at one seed, kept as one JSON file and never run twice."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from frisket.disk.atomic import replacing

Scores = Mapping[str, float]
ENLARGED = 2  # pixels a side a pixel of the world has on a sheet
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Cell:
    """What one cell measured."""

    part: str  # "one", "two" or "alone"
    name: str
    seed: int
    scores: dict[str, float]
    cpu_s: float  # of training and measuring, this process
    settings: tuple[str, ...]
    commit: str
    machine: str

    @property
    def place(self) -> str:
        """Its path under the output folder, without suffix."""
        return f"cells/{self.part}-{self.name}-{self.seed}"


@cache
def name_commit() -> str:
    """The commit that is checked out, with `+` where tracked files differ from it.

    Asked once a process; `EFFECTS_COMMIT` names it where the benchmark runs from an export.
    """
    if "EFFECTS_COMMIT" in os.environ:
        return os.environ["EFFECTS_COMMIT"]
    command = ("git", "-C", str(ROOT), "describe", "--always", "--dirty=+", "--abbrev=9")
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def name_machine() -> str:
    """Processor and torch."""
    import torch  # noqa: PLC0415  slow, and not needed to print a table

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.processor()
    return f"{model}, one thread, torch {torch.__version__}"


def run_cell(
    out: Path,
    part: str,
    name: str,
    seed: int,
    settings: tuple[str, ...],
    work: Callable[[], tuple[Scores, NDArray[np.uint8]]],
) -> Cell:
    """The cell as it was measured, or measured now by `work` (scores, and pictures to look at)."""
    known = read_cell(out, part, name, seed)
    if known is not None:
        return known
    began = time.process_time()
    scores, pictures = work()
    cell = Cell(
        part,
        name,
        seed,
        {key: float(value) for key, value in scores.items()},
        time.process_time() - began,
        settings,
        name_commit(),
        name_machine(),
    )
    write_sheet(out / f"{cell.place}.png", pictures)
    with replacing(out / f"{cell.place}.json") as draft:
        draft.write_text(json.dumps(asdict(cell), indent=1) + "\n", encoding="utf-8")
    return cell


def read_cell(out: Path, part: str, name: str, seed: int) -> Cell | None:
    """A cell that was measured before, or None."""
    path = out / f"cells/{part}-{name}-{seed}.json"
    if not path.is_file():
        return None
    fields: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Cell(**{**fields, "settings": tuple(fields["settings"])})


def write_sheet(path: Path, pictures: NDArray[np.uint8], columns: int = 8) -> None:
    """Pictures `n H W 3` in rows of `columns`, enlarged without smoothing."""
    count, height, width, _ = pictures.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 1), columns * (width + 1), 3), 255, np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // columns * (height + 1), index % columns * (width + 1)
        sheet[top : top + height, left : left + width] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (sheet.shape[1] * ENLARGED, sheet.shape[0] * ENLARGED)
    Image.fromarray(sheet).resize(size, Image.Resampling.NEAREST).save(path, optimize=True)
