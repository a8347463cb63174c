"""Saved configurations of lora-scripts are sd-scripts' options."""

from pathlib import Path

import pytest

from frisket.importers.base import BadImport
from frisket.importers.source_base import ConfigSource, read_source

SAVED = """model_train_type = "sdxl-lora"
pretrained_model_name_or_path = "./models/base.safetensors"
train_data_dir = "./train/aki"
resolution = "1024,1024"
max_train_epochs = 10
learning_rate = "1e-4"
unet_lr = "5e-5"
lr_warmup_steps = 0
network_module = "networks.lora"
network_dim = 32
network_args = ["conv_dim=4"]
positive_prompts = "a cat"
enable_preview = true
gpu_ids = ["0", "1"]
"""


def read(folder: Path, text: str) -> ConfigSource:
    (folder / "saved.toml").write_text(text)
    found = read_source(folder / "saved.toml")
    assert found is not None
    (source,) = found
    assert isinstance(source, ConfigSource)
    return source


def test_the_options_are_those_of_sd_scripts(tmp_path: Path) -> None:
    source = read(tmp_path, SAVED)
    assert (source.trainer, source.role) == ("kohya", "both")
    assert source.script == "sdxl_train_network.py"
    tree = source.written.tree
    assert tree["learning_rate"] == 1e-4
    assert tree["unet_lr"] == 5e-5
    assert tree["network_args"] == ["conv_dim=4"]
    assert not {"model_train_type", "positive_prompts", "enable_preview", "gpu_ids"} & set(tree)
    assert source.written.lines[("unet_lr",)] == 7
    notes = {note.option: note for note in source.notes}
    assert notes["positive_prompts"].kind == "no equivalent"
    assert "by 2" in notes["gpu_ids"].message


def test_a_whole_model_is_told(tmp_path: Path) -> None:
    source = read(tmp_path, SAVED.replace("sdxl-lora", "sdxl-finetune"))
    assert source.script == "sdxl_train.py"
    assert source.notes[0].option == "model_train_type"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SAVED.replace("sdxl-lora", "sdxl-moon"), "none of this kind here"),
        (SAVED.replace('"5e-5"', '"much"'), "a number is needed"),
        ('[metadata]\nname = "x"\n[data]\nresolution = "768,768"\n', "template of lora-scripts"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(BadImport, match=said):
        read(tmp_path, text)
