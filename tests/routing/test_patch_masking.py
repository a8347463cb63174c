"""Patch masking through `train`: what the model sees, what is taught, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from frisket.config.load import ConfigError, check
from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Source
from frisket.recipes.train import train
from frisket.runs import quickstart_data

MASKED = {"ratio": 0.5, "full_from": 1.0}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model and a little data set, on disk."""
    folder = tmp_path_factory.mktemp("world")
    family = FAMILIES.load("maskdit")
    family.save(family.tiny("pocket"), folder / "model")
    quickstart_data.make_clips(folder / "data", seed=0)
    return folder


def config_of(world: Path, output: Path, **sections: Any) -> Config:
    tree: dict[str, Any] = {
        "model": {
            "family": "maskdit",
            "source": str(world / "model"),
            "device": "cpu",
            "train": "all",
        },
        "data": [{"clips": world / "data" / "clips", "masks": world / "data" / "masks"}],
        "optimizer": {"lr": 1e-3},
        "run": {"cache": world / "cache", "steps": 4, "batch": 2, "save_every": 0},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section if isinstance(section, dict) else section
    tree["run"]["output"] = output
    return Config.model_validate(tree)


def read_metrics(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_tokens_out_and_the_last_steps_see_all(world, tmp_path):
    options = {**MASKED, "full_from": 0.5, "zero_weight_first": False}
    losses = {"reconstruction": 0.1}
    result = train(config_of(world, tmp_path / "run", patch_masking=options, losses=losses))
    lines = read_metrics(tmp_path / "run")
    assert [line["kept"] for line in lines] == [0.5, 0.5, 1.0, 1.0]
    # The terms as they count: a strength of 0.1, and nothing where no token is left out.
    assert [line["reconstruction"] > 0 for line in lines] == [True, True, False, False]
    family = FAMILIES.load("maskdit")
    model = family.load_denoiser(Source("pocket", str(result.model)))
    base = family.load_denoiser(Source("pocket", str(world / "model")))
    assert not torch.equal(model.mask_token, base.mask_token)


def test_a_run_that_goes_on_sees_what_it_would_have(world, tmp_path):
    for output, lengths in (("whole", (4,)), ("parts", (2, 4))):
        for steps in lengths:
            config = config_of(
                *(world, tmp_path / output), patch_masking=MASKED, run={"steps": steps}
            )
            train(config)
    names = ("loss", "inside", "outside")
    whole, parts = (
        [[line[name] for name in names] for line in read_metrics(tmp_path / output)]
        for output in ("whole", "parts")
    )
    assert whole == parts


def test_the_noise_of_a_step_does_not_know_of_the_mask(world, tmp_path):
    for name, options in (("masked", MASKED), ("full", {})):
        train(config_of(world, tmp_path / name, patch_masking=options))
    masked, full = (read_metrics(tmp_path / name) for name in ("masked", "full"))
    assert [line["t"] for line in masked] == [line["t"] for line in full]


def test_what_cannot_be_is_refused_by_name(world, tmp_path):
    def refuse(**sections: Any) -> str:
        config = config_of(world, tmp_path / "no", **sections)
        with pytest.raises(ConfigError) as refusal:
            check(config)
        return str(refusal.value)

    masking = {"patch_masking": MASKED}
    for family, way in (("wan", "use [routing]"), ("stable_diffusion", "leave it out")):
        model = {"family": family, "source": "", "train": "all"}
        sentence = refuse(model=model, **masking)
        assert "`patch_masking.ratio` = 0.5" in sentence
        assert way in sentence
    both = refuse(routing={"background": 0.25}, **masking)
    assert "routing.background = 0.25" in both
    assert 'model.train = "all"' in refuse(model={"train": "lora"}, **masking)
    assert "no released weights" in refuse(model={"train": "lora", "source": ""})
    assert "none are" in refuse(losses={"reconstruction": 0.1})
    phrase = {"subject": {"weight": 1.0, "phrase": "sks"}}
    attention = refuse(losses={"attention": 0.01}, regions=phrase, **masking)
    assert "`losses.attention` reads the attention of all cells" in attention
    prior = {"prior": {"strength": 0.3, "teacher": "ema"}}
    averaged = refuse(losses=prior, optimizer={"ema": 0.9}, **masking)
    assert "zero_weight_first = false" in averaged
    for ratio in (-0.1, 1.0):
        with pytest.raises(ValueError, match=r"patch_masking\.ratio"):
            config_of(world, tmp_path / "no", patch_masking={"ratio": ratio})
