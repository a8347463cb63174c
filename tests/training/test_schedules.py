"""Schedules: the multiplier of every step, beside diffusers, transformers, kohya and OneTrainer."""

import json
import logging
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from diffusers.optimization import get_scheduler
from torch import nn
from transformers import get_inverse_sqrt_schedule, get_wsd_schedule

from frisket.config import tree
from frisket.training import schedules
from frisket.training.optim import OptimizerSpec, build
from frisket.training.schedules import Rates, RateSchedule, schedule, set_rates

STEPS = 60
ROWS = json.loads((Path(__file__).parent / "peers.json").read_text("utf-8"))["rows"]
CURVES = [row for row in ROWS if row["what"] == "schedule"]
# OneTrainer's cosine_with_restarts is a smooth wave: two half waves a cycle.
HALVES = {"onetrainer": 2.0, "kohya": 1.0}


def ours(trainer: str, name: str, options: dict[str, Any]) -> Rates:
    """What an importer writes for it."""
    kind = {"cosine_with_min_lr": "cosine", "cosine_with_hard_restarts": "cosine_with_restarts"}
    cycles = options.get("num_cycles", options.get("lr_scheduler_num_cycles", 1))
    smooth = trainer == "onetrainer" and name == "cosine_with_restarts"
    floor = options.get("min_factor", options.get("lr_scheduler_min_lr_ratio", 0.0))
    return Rates(
        kind="cosine" if smooth else kind.get(name, name),  # type: ignore[arg-type]
        steps=STEPS,
        warmup=options.get("lr_warmup_steps", 0),
        final=floor,
        cycles=float(cycles * HALVES[trainer] if smooth else cycles),
        power=float(options.get("lr_scheduler_power", 1)),
        decay=options.get("lr_decay_steps", 0.2),
    )


def curve(rates: Rates, count: int = STEPS) -> list[float]:
    return [rates.factor(step) for step in range(count)]


@pytest.mark.parametrize("row", CURVES, ids=lambda row: f"{row['trainer']}-{row['name']}")
def test_every_step_is_the_other_trainers(row: dict[str, Any]) -> None:
    rates = ours(row["trainer"], row["name"], row["options"])
    # polynomial of diffusers ends at a rate of 1e-7, and the first step of its warm-ups is at 0:
    # ours is a step ahead there, and moves.
    assert curve(rates)[rates.warming :] == pytest.approx(row["curve"][rates.warming :], abs=2e-7)
    if row["name"] == "warmup_stable_decay" and rates.final:
        return  # transformers warms that one up from `final`, not from 0
    assert curve(rates)[: rates.warming] == pytest.approx(row["curve"][1 : rates.warming + 1])


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("linear", {}),
        ("cosine", {}),
        ("cosine_with_restarts", {"num_cycles": 5}),
        ("polynomial", {"power": 3.0}),
    ],
)
def test_every_step_is_that_of_the_installed_diffusers(
    name: RateSchedule, more: dict[str, Any]
) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_scheduler(name, optimizer, num_warmup_steps=8, num_training_steps=STEPS, **more)
    rates = Rates(
        kind=name,
        steps=STEPS,
        warmup=8,
        cycles=float(more.get("num_cycles", 1)),
        power=more.get("power", 1.0),
    )
    for step in range(STEPS):
        if step >= 8:
            assert rates.factor(step) == pytest.approx(theirs.get_last_lr()[0], abs=2e-7)
        optimizer.step()
        theirs.step()


def test_the_installed_transformers_agrees() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    pairs = (
        (get_inverse_sqrt_schedule(optimizer, 9), Rates("inverse_sqrt", STEPS, warmup=9)),
        (
            get_wsd_schedule(optimizer, 9, 15, num_training_steps=STEPS, min_lr_ratio=0.1),
            Rates("warmup_stable_decay", STEPS, warmup=9, decay=15, final=0.1),
        ),
    )
    for theirs, rates in pairs:
        factor = theirs.lr_lambdas[0]
        for step in range(9, STEPS + 3):
            assert rates.factor(step) == pytest.approx(factor(step), abs=1e-9)


@pytest.mark.parametrize("kind", [kind for kind in get_args(RateSchedule) if kind != "constant"])
@pytest.mark.parametrize("final", [0.0, 0.1])
@pytest.mark.parametrize("warmup", [0, 5, 0.2])
def test_every_kind_begins_whole_and_stays_between_final_and_one(
    kind: RateSchedule, final: float, warmup: float
) -> None:
    rates = Rates(kind, 50, warmup=warmup, final=final)
    made = curve(rates, 50)
    assert made[rates.warming] == pytest.approx(1)
    assert all(final <= value <= 1 + 1e-9 for value in made[rates.warming :])
    assert min(made) > 0  # no step of a run is lost
    if kind != "inverse_sqrt":
        assert rates.factor(50) == pytest.approx(final)
        assert rates.factor(500) == pytest.approx(final)


def test_a_share_is_of_the_run_and_warm_up_moves_from_the_first_step() -> None:
    assert curve(Rates(steps=9), 3) == [1, 1, 1]
    assert curve(Rates(steps=9, warmup=4), 5) == [0.25, 0.5, 0.75, 1, 1]
    assert curve(Rates(steps=40, warmup=0.1), 5) == [0.25, 0.5, 0.75, 1, 1]
    assert Rates("warmup_stable_decay", 10, decay=0.3).factor(6) == 1
    assert Rates("cosine", 2, warmup=2).factor(2) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"warmup": 2.5}, "whole steps, or a share"),
        ({"kind": "warmup_stable_decay", "decay": 9.5}, "whole steps, or a share"),
        ({"kind": "warmup_stable_decay", "decay": 8, "warmup": 3}, "3 and 8 steps, the run has 10"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rates(**{"steps": 10} | values)


def test_a_schedule_goes_on_from_its_step_with_two_rates() -> None:
    def built() -> tuple[Any, Any]:
        parameters = {name: nn.Parameter(torch.ones(2)) for name in ("x.lora_A", "x.lora_B")}
        optimizer = build(parameters, OptimizerSpec(lr=0.1, plus=16.0))
        return optimizer, schedule(optimizer, Rates("cosine_with_restarts", 10, cycles=2.0))

    optimizer, rates = built()
    seen = []
    for _ in range(10):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        rates.step()
    resumed, late = built()
    set_rates(resumed, late, [0.1, 1.6], 6)
    assert [group["lr"] for group in resumed.param_groups] == pytest.approx(seen[6])
    factors = curve(Rates("cosine_with_restarts", 10, cycles=2.0), 10)
    assert seen == [pytest.approx([0.1 * factor, 1.6 * factor]) for factor in factors]


def test_a_decaying_schedule_on_top_of_schedule_free_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    optimizer = build({"x": nn.Parameter(torch.ones(2))}, OptimizerSpec("schedulefree"))
    with caplog.at_level(logging.WARNING):
        schedule(optimizer, Rates("cosine", 10))
    assert "averages instead of decaying" in caplog.text


def test_the_configuration_knows_the_same_words() -> None:
    assert tree.ScheduleName == schedules.RateSchedule
