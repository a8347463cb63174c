"""OneTrainer's files of every age, brought to today's names as its own code does."""

import json
from pathlib import Path
from typing import Any

import pytest

from frisket.importers.source_base import ConfigSource, read_source
from frisket.importers.sources.onetrainer import migrate, migrate_concept

RECORD = json.loads((Path(__file__).parent / "onetrainer.json").read_text("utf-8"))


@pytest.mark.parametrize("case", RECORD["configs"])
def test_a_configuration_becomes_what_onetrainer_makes_of_it(case: dict[str, Any]) -> None:
    made, _ = migrate(case["given"], case["given"].get("__version", 0))
    assert made == case["made"]


@pytest.mark.parametrize("case", RECORD["concepts"])
def test_a_concept_becomes_what_onetrainer_makes_of_it(case: dict[str, Any]) -> None:
    assert migrate_concept(case["given"]) == case["made"]


OF_2023 = """{
  "training_method": "LORA",
  "model_type": "STABLE_DIFFUSION_XL_10_BASE",
  "concept_file_name": "concepts.json",
  "optimizer": "ADAM",
  "optimizer_weight_decay": 0.02,
  "unet_learning_rate": 0.0002,
  "gradient_checkpointing": false,
  "weight_dtype": "FLOAT_16",
  "unet_weight_dtype": "NONE",
  "prior_weight_dtype": "NONE"
}"""


def test_a_file_of_2023_is_read_with_its_own_lines(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(OF_2023)
    found = read_source(tmp_path / "old.json")
    assert found is not None
    (source,) = found
    assert isinstance(source, ConfigSource)
    assert source.trainer == "onetrainer"
    assert "version 0" in source.form
    tree, line = source.written.tree, source.written.line
    assert tree["optimizer"] == {"optimizer": "ADAM", "weight_decay": 0.02}
    assert line(("optimizer", "weight_decay")) == 6
    assert tree["unet"]["learning_rate"] == 0.0002
    assert line(("unet", "learning_rate")) == 7
    assert tree["unet"]["weight_dtype"] == "FLOAT_16"
    assert tree["unet"]["gradient_checkpointing"] is False
    assert line(("unet", "gradient_checkpointing")) == 8


def test_todays_files_are_left_to_the_importer(tmp_path: Path) -> None:
    for text in (
        '{"training_method": "LORA", "concepts": [], "optimizer": {"optimizer": "ADAM"}}',
        '{"__version": 11, "training_method": "LORA", "concepts": []}',
    ):
        (tmp_path / "new.json").write_text(text)
        assert read_source(tmp_path / "new.json") is None
