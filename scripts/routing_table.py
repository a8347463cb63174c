"""Predicts what token routing saves of a step of released models, and writes the table of it.

    python scripts/routing_table.py            # docs/performance.md, between its two marks

Models are built from their own configurations on the meta device, with a LoRA of rank 16 on them,
and `frisket.routing.flops` counts a step: no weights are read, nothing is computed. Half an hour of
one core at most.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

from frisket.config.tree import Config
from frisket.routing.flops import StepCost, expect_routed, mix_ratios
from frisket.runs.memory.step_cost import count_training

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- written by scripts/routing_table.py -->", "<!-- end -->"
SHARES = (0.75, 0.5, 0.35, 0.25, 0.15, 0.1)
MARKED = 0.25  # the share whose whole run is shown as well


class Row(NamedTuple):
    """A line of the table; `size` is frames, height, width."""

    name: str
    family: str
    variant: str
    size: tuple[int, int, int]


ROWS = (
    Row("Wan 2.1 14B", "wan", "2.1-t2v-14b", (81, 480, 832)),
    Row("Wan 2.1 14B", "wan", "2.1-t2v-14b", (81, 720, 1280)),
    Row("Wan 2.1 14B", "wan", "2.1-t2v-14b", (1, 480, 832)),
    Row("Wan 2.1 1.3B", "wan", "2.1-t2v-1.3b", (81, 480, 832)),
    Row("HunyuanVideo", "hunyuan_video", "t2v", (33, 544, 960)),
    Row("HunyuanVideo", "hunyuan_video", "t2v", (129, 720, 1280)),
    Row("Qwen-Image", "qwen_image", "image", (1, 1024, 1024)),
    Row("FLUX.1 dev", "flux", "dev", (1, 1024, 1024)),
    Row("FLUX.1 dev", "flux", "dev", (1, 512, 512)),
    Row("SD3.5 large", "sd3", "3.5-large", (1, 1024, 1024)),
    Row("Z-Image", "z_image", "base", (1, 1024, 1024)),
)


def make_config(row: Row) -> Config:
    """A plain run: a LoRA of rank 16, batch 1, no teacher, no checkpointing, default window."""
    frames, height, width = row.size
    tree: dict[str, Any] = {
        "model": {"family": row.family, "variant": row.variant, "dtype": "bfloat16"},
        "lora": {"rank": 16},
        "losses": {"denoise": 1.0},
        "run": {"precision": "bfloat16"},
        "data": [{"clips": "clips", "resolution": [width, height], "frames": frames}],
    }
    return Config.model_validate(tree)


def write_line(row: Row, cost: StepCost, config: Config) -> str:
    """One row of the table."""
    options = config.routing
    start, end = options.start, options.end
    routed = expect_routed(options.full_step_probability, options.full_from)
    ratios = [f"{cost.predict_ratio(share, start, end):.2f}" for share in SHARES]
    run = mix_ratios(cost.predict_ratio(MARKED, start, end), routed)
    size = " x ".join(map(str, row.size))
    shares = f"{cost.attention_share:.2f} | {cost.measure_window(start, end):.2f}"
    return f"| {row.name}, {size} | {cost.tokens} | {shares} | {' | '.join(ratios)} | {run:.2f} |"


def write_table() -> list[str]:
    """The table in Markdown."""
    kept = " | ".join(f"{share:.0%}" for share in SHARES)
    head = f"| model, F x H x W | tokens | attention | window | {kept} | run at {MARKED:.0%} |"
    lines = [head, f"|{' --- |' * (5 + len(SHARES))}"]
    for row in ROWS:
        config = make_config(row)
        lines.append(write_line(row, count_training(config), config))
        sys.stderr.write(lines[-1] + "\n")
    return lines


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{PAGE} lacks the marks {BEGIN} and {END}")
    table = "\n".join(write_table())
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
