"""Damaged configurations and overrides: read, or refused in a sentence that is not endless."""

import json
import random
import tomllib
from pathlib import Path

import pytest
import tomlkit
from tests.fuzz.mutate import VALUES, damage, damage_value, tried
from tests.fuzz.mutate_text import brief, text_of

from frisket.config.load import check, read

QUICK = 60
MANY = pytest.mark.slow
CONFIG = """
[model]
family = "pocket"
variant = "image"

[[data]]
clips = "clips"
masks = { source = "folder", path = "masks", legend = { face = 1, hair = 2 } }
resolution = [32, 32]
repeats = 2
caption = "sks"
trigger = "sks"

[regions]
face = 1.0
hair = 0.3
background = 0.0

[curve]
gamma = 1.5

[losses]
denoise = { strength = 1.0, kind = "huber", delta = 0.1 }
prior = 0.5
normalise = "global"

[lora]
rank = 4
targets = ["to_q", "to_k"]

[optimizer]
name = "adamw"
options = { betas = [0.9, 0.99] }

[preview]
prompts = ['''a
b''', "c"]
seeds = [1, 2]

[run]
output = "run"
cache = "cache"
steps = 4
"""


def look(path: Path, overrides: tuple[str, ...] = ()) -> None:
    brief(lambda: check(*read(path, overrides)))


@pytest.mark.parametrize("seeds", [range(QUICK), pytest.param(range(QUICK, 2100), marks=MANY)])
def test_a_damaged_config(tmp_path: Path, seeds: range) -> None:
    path, tree = tmp_path / "run.toml", tomllib.loads(CONFIG)
    path.write_text(CONFIG)
    look(path)  # what is imported once is no part of a case

    def run(rng: random.Random) -> None:
        if rng.random() < 0.5:
            path.write_bytes(damage(CONFIG.encode(), rng))
        else:
            text = text_of(damage_value(tree, rng), tomlkit.dumps)
            path.write_text(text, encoding="utf-8", errors="replace")
        look(path)

    counts = tried(seeds, run)
    assert min(counts.values()) > 0


@pytest.mark.parametrize("seeds", [range(QUICK), pytest.param(range(QUICK, 2100), marks=MANY)])
def test_a_damaged_override(tmp_path: Path, seeds: range) -> None:
    path = tmp_path / "run.toml"
    path.write_text(CONFIG)
    look(path)
    keys = [f"{a}.{b}" for a, table in tomllib.loads(CONFIG).items() for b in table if a != "data"]
    keys += ["data.0.clips", "data.1.clips", "data.0.masks.path", "data", "run", "losses.x.y", ""]

    def value(rng: random.Random) -> str:
        drawn = rng.choice(VALUES)
        text = drawn if isinstance(drawn, str) and rng.random() < 0.5 else json.dumps(drawn)
        return text if rng.random() < 0.7 else rng.choice(("[", "{a=", "'", '"""')) * 200 + text

    def run(rng: random.Random) -> None:
        text = f"{rng.choice(keys)}={value(rng)}"
        if rng.random() < 0.3:
            text = damage(text.encode("utf8", "replace"), rng).decode("utf8", "surrogateescape")
        look(path, (text.replace("\0", ""),))

    tried(seeds, run)
