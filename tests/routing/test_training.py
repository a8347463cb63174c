"""Token routing through `train`: what is carried, what is told of it, what is refused."""

import json
from pathlib import Path

import pytest
from tests.recipes.test_train_families import config_of, moved, world

from frisket.config.tree import Config
from frisket.recipes.train import train
from frisket.runs.refusals import refusals

__all__ = ["world"]

WINDOW = {"background": 0.25, "start": 0, "end": 2, "multiple": 1, "max_kept": 1.0}
ALWAYS = {**WINDOW, "full_step_probability": 0.0, "full_from": 1.0}


def read_kept(output: Path) -> list[float]:
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["kept"] for line in lines]


def refuse(config: Config) -> str:
    return "\n".join(str(error) for error in refusals(config))


@pytest.mark.parametrize(
    ("family", "variant"),
    [("wan", "2.1-t2v-1.3b"), ("wan", "2.2-ti2v-5b"), ("sd3", "3.5-medium"), ("flux", "dev")],
)
def test_a_routed_run_trains_and_says_what_it_carried(world, tmp_path, family, variant):
    config = config_of(world, tmp_path / "run", family, variant, routing=ALWAYS)
    assert refuse(config) == ""
    result = train(config)
    kept = read_kept(tmp_path / "run")
    assert len(kept) == 4 and all(0 < share < 1 for share in kept)
    assert all(moved(path) for path in result.loras)


def test_a_run_that_goes_on_carries_what_it_would_have(world, tmp_path):
    options = {"routing": {**WINDOW, "full_step_probability": 0.5, "full_from": 1.0}}
    unbroken = config_of(world, tmp_path / "whole", "wan", "2.1-t2v-1.3b", **options)
    train(unbroken)
    for steps in (2, 4):
        run = {**unbroken.run.model_dump(), "output": tmp_path / "parts", "steps": steps}
        train(unbroken.model_copy(update={"run": type(unbroken.run)(**run)}))
    assert read_kept(tmp_path / "parts") == read_kept(tmp_path / "whole")
    assert len(set(read_kept(tmp_path / "whole"))) > 1  # some are whole, some are not


def test_the_last_steps_are_whole(world, tmp_path):
    routing = {**ALWAYS, "full_from": 0.5}
    train(config_of(world, tmp_path / "run", "wan", "2.1-t2v-1.3b", routing=routing))
    kept = read_kept(tmp_path / "run")
    assert kept[2:] == [1.0, 1.0]
    assert max(kept[:2]) < 1


def test_what_cannot_be_routed_is_refused_by_name(world, tmp_path):
    def ask(family: str, variant: str, **sections: object) -> str:
        return refuse(config_of(world, tmp_path / "no", family, variant, **sections))

    outside = ask("wan", "2.1-t2v-1.3b", routing={"background": 0.25})
    assert "routing.start and routing.end" in outside and "of 2" in outside
    unet = ask("stable_diffusion", "sd15", routing=ALWAYS)
    assert "no tokens that could pass by" in unet and "wan" in unet
    nothing = ask("wan", "2.1-t2v-1.3b", routing={**ALWAYS, "background": 0.0})
    assert "routing.background = 0 and losses.prior" in nothing
    attention = ask(
        "wan",
        "2.1-t2v-1.3b",
        routing={**ALWAYS, "start": 1},
        losses={"attention": 0.01},
        regions={"subject": {"weight": 1.0, "phrase": "sks"}},
    )
    assert "losses.attention reads blocks.1" in attention and "blocks.0" in attention
