"""How prompts are read (clip skip, long ones), from the configuration to caches and pictures."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from frisket.config.load import ConfigError, check
from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.recipes.generate import generate
from frisket.recipes.train import train
from frisket.runs.card import metadata_of
from frisket.runs.prepare import prepare, source_of
from frisket.runs.sampling.sampler import tell_reading
from frisket.scoring.runs import open_runs
from frisket.training.checkpoint import CheckpointError

LONG = "a red fox in the snow, " * 5  # 116 tokens of the tiny tokenizer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD 1.5 and one picture with a long caption."""
    folder = tmp_path_factory.mktemp("reading")
    family = FAMILIES.load("stable_diffusion")
    family.save(family.tiny("sd15"), folder / "model")
    (folder / "clips").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "clips" / "fox.png")
    (folder / "clips" / "fox.txt").write_text(LONG, encoding="utf-8")
    return folder


def config_of(world: Path, **model: Any) -> Config:
    base = {"family": "stable_diffusion", "variant": "sd15", "device": "cpu"}
    return Config.model_validate(
        {
            "model": {**base, "source": str(world / "model"), **model},
            "data": [{"clips": world / "clips", "masks": "none", "resolution": 64}],
            "run": {"cache": world / "cache", "output": world / "run"},
        }
    )


def embedded(config: Config) -> int:
    """How many captions had to be embedded."""
    return prepare(config).report.embedded


def test_captions_are_embedded_anew_only_where_they_are_read_otherwise(world, caplog):
    with caplog.at_level(logging.WARNING):
        assert embedded(config_of(world))
    assert "cut to 77 (model.max_tokens = 225 reads more)" in caplog.text
    same = ({}, {"clip_skip": 0}, {"clip_skip": 1}, {"max_tokens": 75})
    assert not any(embedded(config_of(world, **each)) for each in same)
    for other in ({"clip_skip": 2}, {"max_tokens": 150}, {"clip_skip": 2, "max_tokens": 225}):
        assert embedded(config_of(world, **other))
        assert not embedded(config_of(world, **other))


def test_pictures_are_sampled_as_captions_were_read(world, tmp_path):
    seen = {}
    for name, asked in {"plain": {}, "read": {"clip_skip": 2, "max_tokens": 150}}.items():
        generate(
            config_of(world, **asked), [LONG], tmp_path / name, steps=1, height=64, width=64,
            negative="blurry", seeds=[1],
        )  # fmt: skip
        made = json.loads((tmp_path / name / "generate.json").read_text(encoding="utf-8"))
        seen[name] = made["model"]
    assert seen["read"] == seen["plain"] | {"clip_skip": 2, "max_tokens": 150}
    one, two = ((tmp_path / name / "grid.png").read_bytes() for name in seen)
    assert one != two


def test_a_lora_says_in_kohyas_words_how_its_captions_were_read(world):
    said = [
        metadata_of(config, prepare(config), 1)
        for config in (config_of(world), config_of(world, clip_skip=2, max_tokens=225))
    ]
    assert not {"ss_clip_skip", "ss_max_token_length"} & set(said[0])
    assert (said[1]["ss_clip_skip"], said[1]["ss_max_token_length"]) == ("2", "225")


def test_runs_that_read_otherwise_are_not_measured_against_each_other(world, tmp_path):
    runs = []
    for name, asked in {"a": {}, "b": {"clip_skip": 2}}.items():
        config = config_of(world, **asked)
        (tmp_path / name).mkdir()
        save_file({"layer.lora_A.weight": torch.zeros(1, 1)}, tmp_path / name / "lora.safetensors")
        run = config.run.model_copy(update={"output": tmp_path / name})
        runs.append(config.model_copy(update={"run": run}))
    with pytest.raises(ConfigError, match=r"b reads its prompts with model.clip_skip = 2"):
        open_runs(runs)


OTHERS = [
    (name, variant)
    for name in FAMILIES.names()
    for variant in FAMILIES.load(name).variants
    if not (name == "stable_diffusion" and variant == "sd15")
]


@pytest.mark.parametrize(("family", "variant"), OTHERS)
def test_what_cannot_be_read_otherwise_is_refused_by_name(family, variant):
    asked = [("clip_skip", 2), ("clip_skip", 1)]
    asked += [] if family == "stable_diffusion" else [("max_tokens", 150)]
    for key, value in asked:
        model = {"family": family, "variant": variant, key: value}
        config = Config.model_validate({"model": model})
        with pytest.raises(ConfigError, match=rf"{family} {variant} reads .*leave model.{key} out"):
            check(config)


@pytest.mark.parametrize("variant", ["sd15", "sdxl", "sdxl-v"])
def test_stable_diffusion_takes_long_prompts(variant):
    model = {"family": "stable_diffusion", "variant": variant, "max_tokens": 225}
    config = Config.model_validate({"model": model})
    check(config)
    source = source_of(config, FAMILIES.load("stable_diffusion"))
    assert source.reading == {"max_tokens": 225}


@pytest.mark.parametrize(
    ("said", "asked", "told"),
    [
        ({"ss_clip_skip": "2"}, {}, "model.clip_skip = 2 and is sampled with 1"),
        ({"ss_clip_skip": "2"}, {"clip_skip": 2}, ""),
        ({"ss_clip_skip": "None"}, {"clip_skip": 2}, "model.clip_skip = 1 and is sampled with 2"),
        ({"frisket.version": "1"}, {"max_tokens": 150}, "max_tokens = 75 and is sampled with 150"),
        ({"ss_max_token_length": "225"}, {"max_tokens": 225}, ""),
        ({"ss_clip_skip": "two"}, {}, ""),
        ({}, {"clip_skip": 2}, ""),
    ],
)
def test_a_lora_sampled_otherwise_than_it_was_trained_is_told(
    world, tmp_path, caplog, said, asked, told
):
    family = FAMILIES.load("stable_diffusion")
    save_file({"x.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "a.safetensors", said)
    source = source_of(config_of(world, **asked), family)
    with caplog.at_level(logging.WARNING):
        tell_reading(family.variants["sd15"], source, [(tmp_path / "a.safetensors", 1.0)])
    assert (told in caplog.text) if told else not caplog.text


def test_what_sdxl_ignored_in_training_is_not_told(world, tmp_path, caplog):
    family = FAMILIES.load("stable_diffusion")
    said = {"ss_clip_skip": "2"}
    save_file({"x.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "a.safetensors", said)
    source = source_of(config_of(world, variant="sdxl"), family)
    tell_reading(family.variants["sdxl"], source, [(tmp_path / "a.safetensors", 1.0)])
    assert not caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["sd15", "sdxl"])
def test_a_run_reads_long_captions_and_draws_masks_and_goes_on(world, tmp_path, variant):
    family = FAMILIES.load("stable_diffusion")
    family.save(family.tiny(variant), tmp_path / "model")
    mask = np.zeros((64, 64), np.uint8)
    mask[10:50, 16:48] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "fox.png")

    def run(steps: int, **model: Any) -> Config:
        base = config_of(world, variant=variant, source=str(tmp_path / "model"), **model)
        tree = base.model_dump() | {
            "data": [
                {
                    "clips": world / "clips", "resolution": 64, "caption_dropout": 0.3,
                    "masks": {
                        "source": "folder", "path": tmp_path / "masks", "shrink": 0.2, "blur": 0.05,
                    },
                }
            ],
            "lora": {"rank": 2},
            "losses": {"denoise": 1.0, "prior": 0.3},
            "swap": {"rate": 0.5, "source": "noise", "variants": 2},
            "run": {"cache": tmp_path / "cache", "output": tmp_path / "run", "steps": steps},
        }  # fmt: skip
        return Config.model_validate(tree)

    asked = {"max_tokens": 225} | ({"clip_skip": 2} if variant == "sd15" else {})
    train(run(2, **asked))
    train(run(3, **asked))
    assert (tmp_path / "run" / "lora.safetensors").exists()
    with pytest.raises(CheckpointError, match=r"model.max_tokens: 225 then, 75 now"):
        train(run(4, **(asked | {"max_tokens": 75})))
