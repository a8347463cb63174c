"""Consistency and teacher in whole runs: beside a frozen ControlNet, and of one that trains."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.runs.control.scene import config_of, write_world

from frisket.families.base import FAMILIES
from frisket.recipes.train import train


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def read_scores(output: Path) -> dict[str, dict[str, float]]:
    """The last validation."""
    lines = map(json.loads, (output / "metrics.jsonl").read_text().splitlines())
    scores: dict[str, dict[str, float]] = [line for line in lines if "validation" in line][-1][
        "validation"
    ]
    return scores


def read_steps(output: Path) -> list[dict[str, Any]]:
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if "loss" in line]


ALONE = {"denoise": 0.0, "consistency": {"strength": 10.0, "extractor": "luma", "t_max": 0.5}}
LOW = {"low": 0.3, "high": 0.45}
NO_LOOKS: dict[str, Any] = {"holdout": 0}


def mean_error(steps: list[dict[str, Any]]) -> float:
    return sum(step["structure/error"] for step in steps) / len(steps)


@pytest.mark.parametrize("trained", [pytest.param("lora", marks=pytest.mark.slow), "controlnet"])
def test_steps_of_it_alone_bring_the_structure_nearer(
    world: Path, tmp_path: Path, trained: str
) -> None:
    config = config_of(
        world,
        tmp_path,
        trained,
        losses=ALONE,
        timesteps=LOW,
        validation={"holdout": 2, "every": 20, "t": (0.35, 0.9)},
        run={"steps": 20, "save_every": 0},
    )
    train(config)
    scores = read_scores(tmp_path)
    assert scores["tuned"]["consistency"] < 0.9 * scores["base"]["consistency"]
    steps = read_steps(tmp_path)
    assert mean_error(steps[-6:]) < 0.8 * mean_error(steps[:6])
    assert all(step["structure/shown"] == 1 for step in steps)
    # One number by two ways: strength times the mean over the samples.
    assert all(
        step["consistency"] == pytest.approx(10 * step["structure/error"], rel=1e-4)
        for step in steps
    )


def test_above_the_gate_nothing_is_decoded_or_noted(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family, calls = FAMILIES.load("pocket"), list[int]()
    whole = type(family).decode

    def count(self: object, vae: object, latents: torch.Tensor) -> torch.Tensor:
        calls.append(len(latents))
        return whole(self, vae, latents)  # type: ignore[arg-type]

    monkeypatch.setattr(type(family), "decode", count)
    config = config_of(
        world,
        tmp_path,
        losses={"consistency": 1.0},
        timesteps={"low": 0.6, "high": 0.9},
        validation=NO_LOOKS,
        run={"steps": 1},
    )
    train(config)
    (step,) = read_steps(tmp_path)
    assert len(calls) == 1  # refused or not is tried once on a tiny decoder
    assert step["consistency"] == 0
    assert step["structure/shown"] == 0
    assert "structure/error" not in step


@pytest.mark.slow
def test_a_run_that_goes_on_is_the_run_that_never_stopped(world: Path, tmp_path: Path) -> None:
    tables: dict[str, Any] = {
        "losses": {
            "consistency": {
                "extractor": "luma",
                "target": "control",
                "where": "outside",
                "t_max": 0.9,
            }
        },
        "validation": NO_LOOKS,
    }
    whole = config_of(world, tmp_path / "whole", **tables)
    train(whole)
    halves = tmp_path / "halves"
    train(config_of(world, halves, run={"steps": 2}, **tables))
    train(config_of(world, halves, **tables))
    one, other = (load_file(folder / "lora.safetensors") for folder in (whole.run.output, halves))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert any(step["structure/shown"] > 0 for step in read_steps(halves))


def test_the_teacher_is_the_base_with_each_rows_control(world: Path, tmp_path: Path) -> None:
    config = config_of(
        world,
        tmp_path,
        losses={"teacher": 0.5, "prior": 0.5},
        control={"dropout": 0.5},
        validation=NO_LOOKS,
    )
    train(config)
    steps = read_steps(tmp_path)
    assert steps[0]["teacher"] == 0  # the adapter adds nothing yet
    assert steps[-1]["teacher"] > 0
    assert all(step["teacher"] == step["prior"] for step in steps)
