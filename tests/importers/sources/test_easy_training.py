"""Files of LoRA Easy Training Scripts become the two that its backend writes for sd-scripts."""

import json
from pathlib import Path
from typing import Any

import pytest

from frisket.importers.base import BadImport
from frisket.importers.source_base import ConfigSource, read_source

RECORD = json.loads((Path(__file__).parent / "easy_training.json").read_text("utf-8"))
CASES = RECORD["cases"]


def read(folder: Path, text: str) -> tuple[ConfigSource, ConfigSource]:
    (folder / "easy.toml").write_text(text)
    found = read_source(folder / "easy.toml")
    assert found is not None
    training, data = found
    assert isinstance(training, ConfigSource)
    assert isinstance(data, ConfigSource)
    return training, data


@pytest.mark.parametrize("case", CASES)
def test_both_files_are_what_the_backend_writes(tmp_path: Path, case: dict[str, Any]) -> None:
    training, data = read(tmp_path, case["text"])
    assert training.written.tree == case["args"]
    subsets = [{"subsets": case["dataset"]["subsets"]}]
    assert data.written.tree == {"general": case["dataset"]["general"], "datasets": subsets}
    assert (training.role, data.role) == ("training", "data")


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    text = CASES[0]["text"]
    training, data = read(tmp_path, text)
    rows = text.split("\n")
    assert rows[training.written.lines[("learning_rate",)] - 1].startswith("learning_rate")
    assert rows[training.written.lines[("lr_warmup_steps",)] - 1].startswith("warmup_ratio")
    key = ("datasets", 0, "subsets", 0, "num_repeats")
    assert rows[data.written.lines[key] - 1].startswith("num_repeats")
    assert rows[data.written.lines[("general", "resolution")] - 1].startswith("resolution")


def test_a_share_of_steps_stays_one_where_epochs_are_given(tmp_path: Path) -> None:
    text = CASES[0]["text"].replace("max_train_steps = 500", "max_train_epochs = 4")
    training, _ = read(tmp_path, text)
    assert training.written.tree["lr_warmup_steps"] == 0.05


@pytest.mark.parametrize(
    ("added", "script"),
    [
        ("", "train_network.py"),
        ("sdxl = true\n", "sdxl_train_network.py"),
        ('[flux_args.args]\nae = "x"\n', "flux_train_network.py"),
    ],
)
def test_the_model_is_told_by_the_script(tmp_path: Path, added: str, script: str) -> None:
    text = '[[subsets]]\nimage_dir = "a"\n[general_args.args]\nseed = 1\n' + added
    assert read(tmp_path, text)[0].script == script


def test_embeddings_and_broken_sections_are_refused(tmp_path: Path) -> None:
    text = '[[subsets]]\nimage_dir = "a"\n[general_args]\nargs = {seed = 1}\n'
    with pytest.raises(BadImport, match=r"easy\.toml line 5.*an embedding"):
        read(tmp_path, text + '[train_mode]\ntrain_mode = "textual_inversion"\n')
    with pytest.raises(BadImport, match=r"network_args\.args is 'x', a table"):
        read(tmp_path, text + '[network_args]\nargs = "x"\n')
