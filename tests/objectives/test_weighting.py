"""Loss weights of noise levels against those of the trainers they come from, at 50 levels each."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from frisket.objectives.epsilon import Epsilon
from frisket.objectives.flow import Flow

ROWS = json.loads((Path(__file__).parent / "peer_weights.json").read_text("utf-8"))
LOOSE = {"flex": 0.006, "bell": 0.004, "half_bell": 0.004}  # knots; theirs is normed over 1000


def objective_of(model: str, weighting: Any, **more: Any) -> Flow | Epsilon:
    if model == "flow":
        return Flow(weighting=weighting)
    return Epsilon("v" if model == "v" else "epsilon", weighting=weighting, **more)


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['trainer']}-{row['weighting']}-{row['model']}"
)
def test_a_noise_level_counts_as_much_as_in_the_trainer(row: dict[str, Any]) -> None:
    t, theirs = (torch.tensor(column) for column in zip(*row["weights"], strict=True))
    ours = objective_of(row["model"], row["weighting"]).weight(t)
    near = LOOSE.get(row["weighting"], 1e-4)
    torch.testing.assert_close(ours, theirs, rtol=near, atol=near / 2)


@pytest.mark.parametrize("weighting", ["cosmap", "bell", "half_bell", "flex"])
def test_weights_of_flows_keep_the_loss_about_as_large(weighting: Any) -> None:
    t = torch.linspace(0.0005, 0.9995, 1000)
    mean = Flow(weighting=weighting).weight(t).mean().item()
    assert mean == pytest.approx(1.3 if weighting == "half_bell" else 1, abs=0.12)


def test_min_snr_and_a_weighting_multiply() -> None:
    t = torch.tensor([0.1, 0.5, 0.9])
    both = Epsilon(min_snr=5.0, weighting="debiased").weight(t)
    each = Epsilon(min_snr=5.0).weight(t) * Epsilon(weighting="debiased").weight(t)
    torch.testing.assert_close(both, each)


@pytest.mark.parametrize(
    ("model", "weighting", "said"),
    [("flow", "debiased", "epsilon or v"), ("epsilon", "flex", "min_snr = 5")],
)
def test_a_weighting_for_other_models_is_refused(model: str, weighting: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        objective_of(model, weighting)
