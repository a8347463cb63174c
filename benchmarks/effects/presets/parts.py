"""What each part of the preset `character` does: its row less the part, against its own row."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from benchmarks.effects import one_subject
from benchmarks.effects.cells import Cell
from benchmarks.effects.tables import compare, read_cells

PRESET = "swap"  # its row
CHANGES = (  # row, and what of the preset it takes away or changes
    ("unmasked", "no mask, and so no prior and no swap"),
    ("no-prior", "no prior"),
    ("prior", "no swap"),
    ("rank-4", "rank 4 instead of 16"),
    ("attention", "the attention term added"),
    ("tlora", "T-LoRA added"),
    ("early", '`timesteps.emphasis = "content"`'),
    ("late", '`timesteps.emphasis = "style"`'),
)
UNITS = {  # how a difference is written, and what it is multiplied by
    "leak": ("{:+.1f} points", 100.0),
    "fidelity": ("{:+.2f} dB", 1.0),
    "found": ("{:+.1f} points", 100.0),
}


def build_parts(out: Path, seeds: Sequence[int]) -> list[str]:
    """A row for each change: mean differences over the seeds, bold where every seed agrees."""
    preset = read_cells(out, one_subject.PART, PRESET, seeds)
    lines = [
        "### One part at a time",
        "",
        "What becomes of `character` if one part of it is taken away or changed: mean differences",
        f"from its row, `{PRESET}`, over the seeds. **Bold**: the same way in every seed.",
        "",
        f"| change | row | {' | '.join(UNITS)} | drift | seeds |",
        "|---" * (len(UNITS) + 4) + "|",
    ]
    for name, change in CHANGES:
        cells = read_cells(out, one_subject.PART, name, seeds)
        shared = {cell.seed for cell in cells} & {cell.seed for cell in preset}
        if not shared:
            lines.append(f"| {change} | `{name}` |" + " not run |" * (len(UNITS) + 2))
            continue
        values = [_format_change(key, cells, preset) for key in (*UNITS, "drift")]
        lines.append(f"| {change} | `{name}` | {' | '.join(values)} | {len(shared)} |")
    return [*lines, ""]


def _format_change(key: str, cells: Sequence[Cell], preset: Sequence[Cell]) -> str:
    """The mean difference of a metric; of drift, the mean ratio."""
    own = {cell.seed: cell.scores[key] for cell in preset}
    pairs = [(cell.scores[key], own[cell.seed]) for cell in cells if cell.seed in own]
    if key == "drift":
        text = f"x {fmean(value / usual for value, usual in pairs):.2f}"
    else:
        form, scale = UNITS[key]
        change = round(scale * fmean(value - usual for value, usual in pairs), 2)
        text = form.format(change) if abs(change) >= 0.05 else "none"
    return f"**{text}**" if compare(key, cells, preset) else text
