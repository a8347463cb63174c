"""The table and the curve of docs/maskdit.md, from the runs that are there."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from benchmarks.effects.cells import Cell, read_cell
from benchmarks.effects.tables import put_tables
from benchmarks.maskdit.comparison import NAMES, PART
from PIL import Image, ImageDraw

from frisket.disk.atomic import replacing

BEGIN, END = "<!-- maskdit: begin -->", "<!-- maskdit: end -->"
COLUMNS = ("error", "weighted", "colours", "background", "shape", "colour")
DIGITS = {"error": 4, "weighted": 3}
COLOURS = {"full": "#52606d", "masked": "#c2410c"}
WIDTH, HEIGHT, EDGE = 720, 400, 60
DATA, DRAWING = "maskdit.json", "images/maskdit.png"  # beside the page

Curve = Mapping[int, float]


def list_cells(out: Path, seeds: Sequence[int]) -> list[Cell]:
    """The runs that were measured; of a seed both or neither."""
    pairs = [[read_cell(out, PART, name, seed) for name in NAMES] for seed in seeds]
    return [cell for pair in pairs if all(pair) for cell in pair if cell is not None]


def read_points(cell: Cell) -> Curve:
    """Steps of the run that sees all tokens, which its FLOPs would pay for, and the error there."""
    points = {key: value for key, value in cell.scores.items() if key.startswith("curve/")}
    return {int(key.removeprefix("curve/")): value for key, value in points.items()}


def build(cells: Sequence[Cell]) -> str:
    """One row a kind: means over the seeds, and the error of each seed."""
    seeds = sorted({cell.seed for cell in cells})
    head = ["run", "steps", *COLUMNS, *(f"error, seed {seed}" for seed in seeds)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in NAMES:
        mine = [cell for cell in cells if cell.name == name]
        steps = mine[0].settings[0].removeprefix("steps=")
        means = [
            f"{np.mean([cell.scores[key] for cell in mine]):.{DIGITS.get(key, 2)}f}"
            for key in COLUMNS
        ]
        apart = [f"{cell.scores['error']:.4f}" for cell in mine]
        lines.append(f"| {name} | {' | '.join((steps, *means, *apart))} |")
    spent = sum(cell.cpu_s for cell in cells)
    note = f"{len(cells)} runs, {spent / 60:.0f} CPU minutes, commit {cells[0].commit}."
    return "\n".join((*lines, "", note, ""))


def write_page(page: Path, cells: Sequence[Cell]) -> None:
    """Put the table into a page, and the curve as numbers and as a picture beside it."""
    put_tables(page, build(cells), begin=BEGIN, end=END)
    curves = {f"{cell.name}-{cell.seed}": read_points(cell) for cell in cells}
    with replacing(page.parent / DATA) as draft:
        draft.write_text(json.dumps(curves, indent=1) + "\n", encoding="utf-8")
    draw_curves(page.parent / DRAWING, cells)


def draw_curves(path: Path, cells: Sequence[Cell]) -> None:
    """The error by FLOPs spent, one line a run; the error on a logarithmic scale."""
    points = [read_points(cell) for cell in cells]
    most = max(max(curve) for curve in points)
    errors = np.log([error for curve in points for error in curve.values()])
    low, high = float(errors.min()), float(errors.max())
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    drawing = ImageDraw.Draw(image)

    def place(step: float, error: float) -> tuple[float, float]:
        across = step / most
        up = (np.log(error) - low) / max(high - low, 1e-9)
        return EDGE + across * (WIDTH - 2 * EDGE), HEIGHT - EDGE - float(up) * (HEIGHT - 2 * EDGE)

    frame = (EDGE, EDGE, WIDTH - EDGE, HEIGHT - EDGE)
    drawing.rectangle(frame, outline="#d0d5dc")
    for error in np.exp(np.linspace(low, high, 5)):
        drawing.text((8, place(0, error)[1] - 6), f"{error:.3f}", fill="#52606d")
    for share in (0, 0.25, 0.5, 0.75, 1):
        drawing.text(
            (place(share * most, np.exp(low))[0] - 12, HEIGHT - EDGE + 8),
            f"{share:.0%}",
            fill="#52606d",
        )
    drawing.text((EDGE, HEIGHT - 24), "FLOPs spent", fill="#1f2933")
    drawing.text((EDGE, 12), "error on held-out pictures, all tokens seen", fill="#1f2933")
    for index, name in enumerate(NAMES):
        drawing.text((WIDTH - EDGE - 90, EDGE + 10 + 18 * index), name, fill=COLOURS[name])
    for cell, curve in zip(cells, points, strict=True):
        line = [place(step, error) for step, error in sorted(curve.items())]
        drawing.line(line, fill=COLOURS[cell.name], width=2)
        for x, y in line:
            drawing.ellipse((x - 3, y - 3, x + 3, y + 3), fill=COLOURS[cell.name])
    with replacing(path) as draft:
        image.save(draft, format="PNG", optimize=True)
