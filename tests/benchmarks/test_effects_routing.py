"""The routing table of the effects benchmark: its gains, its claims and what it says is missing."""

from pathlib import Path

import numpy as np
import pytest
from benchmarks.effects.cells import run_cell
from benchmarks.effects.routing.configurations import CONFIGURATIONS, PART
from benchmarks.effects.routing.tables import BEGIN, END, build

SCORES = {"fidelity": 15.0, "found": 0.5, "leak": 0.0, "train_s": 60.0}
NOTHING = np.zeros((1, 32, 32, 3), np.uint8)


def put_cell(
    out: Path, name: str, seed: int, *, inside: float, drift: float = 0.1, part: str = PART
) -> None:
    scores = {**SCORES, "inside": inside, "drift": drift, "tflops": drift}
    run_cell(out, part, name, seed, (), lambda: (scores, NOTHING))


@pytest.mark.parametrize(
    ("inside", "drift", "first", "second"),
    [(0.41, 0.1, "holds", "holds"), (0.43, 0.12, "does not hold", "does not hold")],
)
def test_a_gain_is_a_share_of_what_all_tokens_gain(
    tmp_path: Path, inside: float, drift: float, first: str, second: str
) -> None:
    put_cell(tmp_path, "base", 0, inside=1.0)
    for seed in range(2):
        put_cell(tmp_path, "full", seed, inside=0.4)
        put_cell(tmp_path, "quarter", seed, inside=inside, drift=drift)
    text = build(tmp_path, [0, 1])
    gain = 100 * (1 - inside) / 0.6
    assert f"Claim 1 {first}: {gain:.1f} %" in text
    assert f"Claim 2 {second}: {drift / 0.1:.2f} of the drift" in text
    assert f"| `quarter` | {gain:.1f}% ({gain:.1f} to {gain:.1f})" in text


def test_flops_are_a_share_and_what_was_not_run_is_named(tmp_path: Path) -> None:
    put_cell(tmp_path, "base", 0, inside=1.0)
    put_cell(tmp_path, "full", 0, inside=0.4)
    for name, counted in (("full", 2.0), ("quarter", 1.5)):
        put_cell(tmp_path, name, 0, inside=0.4, drift=counted, part=f"{PART}-flops")
    put_cell(tmp_path, "quarter", 0, inside=0.5)
    text = build(tmp_path, [0])
    assert "| 0.75 | 1 |" in text
    assert "Not run: `half`, `tenth`, `twentieth`, `always`." in text
    assert "The claims wait" in build(tmp_path / "empty", [0])


def test_the_page_has_a_place_for_the_table_and_a_row_for_every_configuration() -> None:
    page = (Path(__file__).parents[2] / "docs" / "effects.md").read_text(encoding="utf-8")
    assert page.index(BEGIN) < page.index(END)
    protocol = page.split("### Token routing", 1)[1].split("\n### ", 1)[0]
    assert all(f"`{name}`" in protocol for name in CONFIGURATIONS)
