"""Every option that the parsers of sd-scripts and musubi-tuner have is answered at every value."""

import json
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import tomlkit

from frisket.importers.base import IMPORT_FORMATS, BadImport
from frisket.importers.flags.options import merge_rules

RECORDED = json.loads(
    (resources.files("frisket.importers.shells") / "options.json").read_text(encoding="utf-8")
)
SARANIA = Path(__file__).parent / "sarania_options.json"  # of another fork, besides musubi's own
RECORDED["sarania"] = json.loads(SARANIA.read_text(encoding="utf-8"))
TRAINERS = MappingProxyType(
    {"kohya": "kohya", "musubi": "musubi", "blissful": "musubi", "sarania": "musubi"}
)
SETS = {
    "kohya": '[[datasets]]\nresolution = 64\n[[datasets.subsets]]\nimage_dir = "a"\n',
    "musubi": '[[datasets]]\nimage_directory = "a"\nresolution = [64, 64]\n',
}
# What the sets of data are taken from, or which leaves them out.
FILES = {
    "dataset_config", "train_data_dir", "reg_data_dir", "in_json", "conditioning_data_dir",
    "dataset_repeats",
}  # fmt: skip
NEEDED: dict[str, dict[str, Any]] = {  # what an option needs beside it to mean anything
    "lr_scheduler_num_cycles": {"lr_scheduler": "cosine_with_restarts"},
    "lr_scheduler_power": {"lr_scheduler": "polynomial"},
    "lr_scheduler_min_lr_ratio": {"lr_scheduler": "cosine_with_min_lr"},
    "lr_scheduler_timescale": {"lr_scheduler": "inverse_sqrt"},
    "lr_decay_steps": {"lr_scheduler": "warmup_stable_decay"},
    "lr_warmup_steps": {"lr_scheduler": "cosine"},
    "save_last_n_epochs": {"save_every_n_epochs": 1},
    "save_last_n_steps": {"save_every_n_steps": 10},
    "sample_every_n_epochs": {"sample_prompts": "a/prompts.txt"},
}


def changed(option) -> list:
    """Values of an option's type that are not its default: 0 and false too, where that is not."""
    default, kind = option.get("default"), option["type"]
    if option.get("choices"):
        found = [each for each in option["choices"] if each != default and each is not None][:2]
    elif kind == "bool":
        found = [not default]
    elif kind in ("int", "float", "int_or_float"):
        found = [2 if default != 2 else 3] + ([0] if default else [])
    else:
        found = ["a.b=1"] if option.get("nargs") else ["something"]
    return [[each] if option.get("nargs") in ("*", "+") else each for each in found]


def asked(folder: Path, trainer: str, **options):
    """What becomes of options in a training file beside a small data set; BadImport as text."""
    (folder / "set.toml").write_text(SETS[trainer])
    base = {"network_module": "networks.lora" if trainer == "kohya" else "networks.lora_wan"}
    tree = {"dataset_config": "set.toml", **base, **options}
    (folder / "train.toml").write_text(tomlkit.dumps(tree))
    try:
        return IMPORT_FORMATS.load(trainer).read(folder / "train.toml")
    except BadImport as error:
        return str(error)


@pytest.fixture
def folder(tmp_path, drawn):
    drawn("a", "one.png", caption="a cat")
    (tmp_path / "a" / "prompts.txt").write_text("a cat --w 64\n")
    return tmp_path


@pytest.mark.parametrize("recorded", TRAINERS)
def test_every_option_of_their_parsers_has_a_rule(recorded):
    trainer = TRAINERS[recorded]
    rules = merge_rules(trainer, data=trainer == "kohya")
    options = RECORDED[recorded]["options"]
    assert len(options) > (150 if recorded != "sarania" else 9)
    assert [name for name in options if rules.find("flags", name) is None] == []


@pytest.mark.parametrize(
    "recorded", ["kohya", "musubi", "sarania", pytest.param("blissful", marks=pytest.mark.slow)]
)
def test_every_option_is_answered_at_a_value_that_is_not_its_default(recorded, folder):
    """Mapped, told, or refused by name and line; never "asks for nothing"."""
    trainer = TRAINERS[recorded]
    wrong: list[Any] = []
    for name, option in RECORDED[recorded]["options"].items():
        for value in changed(option) if name not in FILES else ():
            done = asked(folder, trainer, **{**NEEDED.get(name, {}), name: value})
            if isinstance(done, str):
                if name not in done or "train.toml line" not in done:
                    wrong.append((name, value, done))
                continue
            said = [note for note in done.notes if note.option == name]
            if len(said) == 0 or any("asks for nothing" in note.message for note in said):
                wrong.append((name, value, [note.message for note in said]))
    assert not wrong, "\n".join(map(str, wrong))
