"""The quick start: its report says what was measured, and the whole of it runs."""

import json
from pathlib import Path

import numpy as np
import pytest

from frisket.config.load import load
from frisket.evaluation.page import write_report
from frisket.recipes.quickstart import VARIANTS, make_project, quickstart
from frisket.runs.quickstart_data import NEW, PLAIN, Scores
from frisket.scoring.quickstart_page import (
    QuickstartResult,
    build_page,
    judge_claims,
    write_verdict,
)

METRICS = {"leak", "fidelity", "found", "drift", "seconds", "mib"}


def result(leak: float, found: float, drift: float) -> QuickstartResult:
    scores = Scores(leak, 15.0, found, found, 1.0, found / 2, drift)
    grey = np.full((max(NEW, PLAIN), 32, 32, 3), 128, np.uint8)
    return QuickstartResult(scores, 30.0, 600.0, grey[:PLAIN], grey[:NEW])


def test_the_report_holds_every_seed_and_does_not_hide_what_failed(tmp_path: Path) -> None:
    made = {
        ("no_mask", 0): result(0.8, 0.0, 0.2),
        ("mask", 0): result(0.02, 0.1, 0.1),
        ("mask_prior", 0): result(0.02, 0.1, 0.09),
        ("character", 0): result(0.01, 0.9, 0.05),
    }
    results = made | {(name, 1): value for (name, _), value in made.items()}
    write_report(
        tmp_path / "report.html", build_page(results, result(0.02, 0.0, 0.0), tmp_path, 60.0)
    )
    data = json.loads((tmp_path / "report.json").read_text())
    assert data["variants"].keys() == VARIANTS.keys()
    for row in data["variants"].values():
        assert row.keys() == METRICS
        assert all(len(values) == 2 for values in row.values())
    assert [claim["met"] for claim in data["claims"]] == [True, False, True]
    text = (tmp_path / "report.html").read_text()
    assert "10%" in text  # the prior's cut of drift, which missed its 40 %
    assert "data:image/png;base64," in text


def test_claims_are_the_ones_fixed_beforehand() -> None:
    row = {"leak": 0.1, "drift": 0.1, "found": 0.79}
    means = {name: dict(row) for name in VARIANTS}
    means["no_mask"]["leak"] = 0.39
    means["mask_prior"]["drift"] = 0.061
    assert [claim.met for claim in judge_claims(means)] == [False, False, False]
    assert write_verdict(means).startswith("The mask was not shown to work")
    means["no_mask"]["leak"] = 0.4
    means["mask_prior"]["drift"] = 0.06
    means["character"]["found"] = 0.8
    assert [claim.met for claim in judge_claims(means)] == [True, True, True]
    assert write_verdict(means).startswith("The mask worked")


def test_the_project_is_one_a_user_could_have_written(tmp_path: Path) -> None:
    make_project(tmp_path, seed=1)
    for overrides in VARIANTS.values():
        config = load(tmp_path / "frisket.toml", overrides)
        assert config.run.seed == 1
    assert config.swap.rate > 0
    assert config.data[0].masks.path == tmp_path / "masks"
    assert len(list((tmp_path / "clips").glob("*.png"))) == 8


@pytest.mark.slow
def test_the_whole_of_it_runs(tmp_path: Path) -> None:
    report = quickstart(tmp_path, seeds=1, workers=1, overrides=("run.steps=3",))
    data = json.loads(report.with_suffix(".json").read_text())
    assert set(data["variants"]) == set(VARIANTS)
    assert data["base"]["leak"] < 0.2
    assert (tmp_path / "inspect" / "contact-sheet.png").is_file()
