"""GUI configurations of kohya_ss become the options that its own code writes for sd-scripts."""

import json
from pathlib import Path
from typing import Any

import pytest

from frisket.importers.base import BadImport
from frisket.importers.shells.options import parse, read_option_types
from frisket.importers.shells.words import Word
from frisket.importers.source_base import ConfigSource, read_source

RECORD = json.loads((Path(__file__).parent / "kohya_gui.json").read_text("utf-8"))
CASES = [  # all upstream's files and every kind of LoRA; a third of them is enough each time
    pytest.param(case, id=case["name"], marks=() if number % 3 == 0 else pytest.mark.slow)
    for number, case in enumerate(RECORD["cases"])
]
MODEL = "pretrained_model_name_or_path"
# Files of the output folder that the recording does not keep.
UNTOLD = {"sample_prompts", "output_dir", "logging_dir"}


def read(folder: Path, given: dict[str, Any], name: str = "gui.json") -> ConfigSource:
    (folder / name).write_text(json.dumps(given, indent=2))
    found = read_source(folder / name)
    assert found is not None
    (source,) = found
    assert isinstance(source, ConfigSource)
    return source


def arguments(value: Any) -> Any:
    """A list of `name=value` whatever its order, numbers as numbers."""
    if not isinstance(value, list):
        return value
    found: dict[str, Any] = {}
    for word in map(str, value):
        name, _, text = word.partition("=")
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = text
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set that the recording was made with."""
    root = tmp_path_factory.mktemp("gui")
    for each, count in RECORD["pictures"].items():
        (root / "img" / each).mkdir(parents=True)
        for number in range(count):
            (root / "img" / each / f"{number}.png").touch()
    return root


@pytest.mark.parametrize("case", CASES)
def test_every_option_is_what_the_gui_writes(folder: Path, case: dict[str, Any]) -> None:
    start = {"max_resolution": "512,512", "lr_warmup": 10}  # every file has them
    source = read(folder, start | case["given"] | {"output_name": "name"})
    base = {n: v for n, v in RECORD["base"].items() if n not in case["less"]}
    typed = parse([Word(text, 1) for text in case["typed"]], "kohya", case["script"]).tree
    wanted = {
        n: v
        for n, v in (base | case["more"]).items()
        if n in read_option_types("kohya") and v != []
    }
    wanted |= typed
    if MODEL not in case["given"]:  # what the page starts with is not what a file asks for
        del wanted[MODEL]
    found = {n: v for n, v in source.written.tree.items() if n not in UNTOLD}
    assert source.script == case["script"]
    assert {n: arguments(v) for n, v in found.items()} == {
        n: arguments(v) for n, v in wanted.items() if n not in UNTOLD
    }


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    given = {"LoRA_type": "Standard", "max_resolution": "1024,1024", "train_batch_size": 3,
             "sdxl": True, "optimizer": "Adafactor", "learning_rate": "4e-4"}  # fmt: skip
    source = read(tmp_path, given)
    assert source.trainer == "kohya"
    assert source.role == "both"
    assert source.script == "sdxl_train_network.py"
    assert source.written.tree["resolution"] == "1024,1024"
    assert source.written.line(("resolution",)) == 3
    assert source.written.line(("optimizer_type",)) == 6
    assert source.written.tree["learning_rate"] == 4e-4


def test_a_file_without_the_field_of_steps_counts_epochs(folder: Path) -> None:
    given = {"LoRA_type": "Standard", "max_resolution": "512,512", "train_batch_size": 2,
             "train_data_dir": "img", "epoch": 4}  # fmt: skip
    pictures = 10 * 3 + 2 * 5
    assert read(folder, given).written.tree["max_train_steps"] == pictures / 2 * 4
    missing = read(folder, given | {"train_data_dir": "elsewhere"}).written.tree
    assert "max_train_steps" not in missing
    assert missing["max_train_epochs"] == 4


def test_processes_and_strange_fields_are_told(tmp_path: Path) -> None:
    given = {"LoRA_type": "Standard", "max_resolution": "512,512", "train_batch_size": 2,
             "num_processes": 2, "my_field": 3}  # fmt: skip
    notes = {note.option: note for note in read(tmp_path, given).notes}
    assert notes["num_processes"].kind == "no equivalent"
    assert "by 2" in notes["num_processes"].message
    assert notes["my_field"].line == 6


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("LoRA_type", "LyCORIS/Nothing", "LoRA_type = 'LyCORIS/Nothing'"),
        ("LoRA_type", ["a"], "text, a number or true or false"),
        ("lr_warmup_steps", "many", "a number is needed"),
        ("additional_parameters", "--network_dim=much", "a whole number is needed"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, field: str, value: Any, said: str) -> None:
    given = {"LoRA_type": "Standard", "max_resolution": "512", "train_batch_size": 2, field: value}
    with pytest.raises(BadImport, match=r"gui\.json line") as error:
        read(tmp_path, given)
    assert said in str(error.value)


def test_the_other_tabs(tmp_path: Path) -> None:
    given = {"max_resolution": "512,512", "train_batch_size": 2, "lr_warmup": 0, "sdxl": True,
             "train_data_dir": "img", "learning_rate": 1e-6}  # fmt: skip
    source = read(tmp_path, given)
    assert source.script == "sdxl_train.py"
    assert "whole model" in source.notes[0].message
    assert not {"network_module", "network_dim", "unet_lr"} & set(source.written.tree)
    with pytest.raises(BadImport, match="an embedding"):
        read(tmp_path, given | {"num_vectors_per_token": 4})
    del given["train_data_dir"]
    with pytest.raises(BadImport, match="tab for fine-tuning"):
        read(tmp_path, given)
