"""What a LoRA says of its making: the same in every folder, nobody's paths, and only text."""

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from frisket.config.tree import Config
from frisket.families.models.pocket.family import FAMILY
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.runs.card import publish_source

ODD = 'f"><script>alert(1)</script>'


def trained(home: Path) -> Path:
    """A run of two steps in a home folder; its output."""
    FAMILY.save(FAMILY.tiny("image"), home / "model")
    quickstart_data.make_clips(home / "data", seed=0)
    tree = {
        "model": {"source": str(home / "model"), "device": "cpu"},
        "data": [{"clips": home / "data" / "clips", "masks": home / "data" / "masks"}],
        "regions": {ODD: 1.0},
        "lora": {"rank": 2},
        "run": {"output": home / "run_*1*", "cache": home / "cache", "steps": 2, "batch": 2},
    }
    return train(Config.model_validate(tree)).lora


def test_equal_runs_in_two_homes_make_equal_files_that_name_neither(tmp_path: Path) -> None:
    one, two = (trained(tmp_path / name) for name in ("alice", "bob"))
    assert one.read_bytes() == two.read_bytes()
    with safe_open(one, framework="pt") as opened:
        metadata = opened.metadata()
    assert str(tmp_path) not in json.dumps(metadata)
    assert "alice" not in json.dumps(metadata)
    assert metadata["ss_sd_model_name"] == "model"
    assert json.loads(metadata["frisket.base"])["source"] == "model"
    card = (one.parent / "README.md").read_text(encoding="utf-8")
    assert "# run\\_\\*1\\*" in card
    assert "script" in card
    assert not re.search(r"(?<!\\)<|(?<!\\)>", card)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("", ""),
        ("Tongyi-MAI/Z-Image", "Tongyi-MAI/Z-Image"),
        ("/home/me/models/z-image", "z-image"),
        ("/home/me/models/z.safetensors", "z.safetensors"),
        (r"C:\Users\me\z-image", "z-image"),
        (r"\\server\share\z-image", "z-image"),
        ("C:/Users/me/z-image/", "z-image"),
    ],
)
def test_of_a_path_the_last_name_is_said_and_a_hub_id_whole(source: str, said: str) -> None:
    assert publish_source(source) == said


def test_a_relative_path_that_is_there_is_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "me" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert publish_source("me/model") == "model"
