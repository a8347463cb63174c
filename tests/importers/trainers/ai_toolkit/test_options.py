"""Every option that ai-toolkit's classes ask for is answered, at its default and otherwise."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.importers.trainers.ai_toolkit import files
from tests.importers.trainers.ai_toolkit.files import job

from frisket.importers.base import BadImport
from frisket.importers.options import read_rules

clips, imported = files.clips, files.imported
PEER = json.loads((Path(__file__).parents[1] / "peers/ai_toolkit.json").read_text())
# Values of options that have none by default, and of those that take a few words.
VALUES: dict[str, Any] = {
    "folder_path": "clips", "dataset_path": "clips", "mask_path": "masks", "control_path": "masks",
    "control_path_1": "masks", "control_path_2": "masks", "control_path_3": "masks",
    "augmentations": [{"method": "x"}], "controls": ["depth"], "timestep_type": "linear",
    "random_triggers": ["x"], "replacements": ["x"], "augments": ["x"], "extra_values": [1.0],
    "batch_size": 3, "conv": 4, "conv_alpha": 4, "dropout": 0.1, "linear": 8, "rank": 8,
    "lorm": {"extract_mode": "x"}, "model_kwargs": {"x": 1}, "model_paths": {"x": "y"},
    "network_kwargs": {"only_if_contains": ["x"]}, "quantize_kwargs": {"x": 1}, "qtype": "int8",
    "is_xl": True, "only_if_contains": ["x"], "ignore_if_contains": ["x"], "cfg_rescale": 0.5,
    "ema_config": {"use_ema": True}, "lr_scheduler": "cosine",
    "lr_scheduler_params": {"eta_min": 0.1},
    "optimizer_params": {"weight_decay": 0.1}, "max_loss": 1.0, "min_snr_gamma": 5.0,
    "snr_gamma": 5.0, "optimizer": "lion", "start_step": 5, "target_norm_std": 1.0,
    "validation_config": {"resolution": 64}, "dtype": "bf16", "gradient_accumulation_steps": 2,
    "prompts": ["x"], "samples": [{"prompt": "x"}], "control_transparent_color": [1, 1, 1],
    "guidance_loss_target": 4.0, "cache_size_limit": 8, "unet_sample_size": 64,
    "logging": {"log_every": 1}, "training_seed": 3, "type": "lokr", "lr": 1e-4,
}  # fmt: skip
ELSEWHERE = {("process", name) for name in ("train", "network", "model", "save", "sample")} | {
    ("process", "datasets"),  # tables with options of their own
    ("dataset", "poi"), ("dataset", "prior_reg"),  # tested for themselves
}  # fmt: skip
SECTIONS = [section for section in PEER["sections"] if section != "item"]


def options_of(section: str) -> list[tuple[str, Any]]:
    """Options with their defaults."""
    known = PEER["sections"][section].items()
    return [(name, default) for name, default in known if (section, name) not in ELSEWHERE]


def other(name: str, default: Any, section: str) -> Any:
    """A value that is not the default."""
    if section == "dataset" and name == "type":
        return "slider"
    if name in VALUES:
        return VALUES[name]
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default * 2 + 3
    return "x" if not isinstance(default, list) else ["x"]


def with_option(section: str, name: str, value: Any) -> tuple[dict[str, Any], str]:
    """A job with one option, and how its note calls it."""
    row: dict[str, Any] = {"folder_path": "clips"}
    parts: dict[str, Any] = {
        "network": {"linear": 4},
        "train": {"lr": 1e-4},
        "save": {"save_every": 5},
        "sample": {"prompts": ["x"]},
        "model": {"name_or_path": "x", "arch": "flux"},
    }
    place = section
    if section == "dataset":
        row[name], place = value, "datasets[0]"
    elif section == "ema":
        parts["train"]["ema_config"], place = {"use_ema": True, name: value}, "train.ema_config"
    elif section == "process":
        parts[name], place = value, ""
    else:
        parts[section][name] = value
    where = f"config.process[0].{place}".rstrip(".")
    return job(row, **parts), f"{where}.{name}"


@pytest.mark.parametrize("section", SECTIONS)
def test_options_at_another_value_are_answered(clips, imported, notes, section):
    for name, default in options_of(section):
        value = other(name, default, section)
        assert value != default, name
        tree, option = with_option(section, name, value)
        told = [
            note for key, each in notes(imported(tree)).items() for note in each
            if key == option or key.startswith((f"{option}.", f"{option}["))
        ]  # fmt: skip
        said = [note.message for note in told if note.kind != "defect"]
        assert said, name
        quiet = ("asks for nothing", "no such option")
        assert not any(words in each for each in said for words in quiet), name


@pytest.mark.parametrize("section", SECTIONS)
def test_options_at_their_default_ask_for_nothing(section):
    for name, default in options_of(section):
        rule = read_rules("ai_toolkit").find(section, name)
        assert rule is not None, name
        if default is not None and rule.kind == "no equivalent":
            assert rule.is_idle(default), name


def test_what_it_no_longer_has_is_told(clips, imported, notes):
    done = imported(job({"folder_path": "clips", "poi": "face"}))
    (note,) = notes(done)["config.process[0].datasets[0].poi"]
    assert "it stops at this option" in note.message


def test_a_set_that_only_holds_the_model_back_is_left_out_by_name(clips, imported, notes):
    done = imported(job({"folder_path": "clips"}, {"folder_path": "clips", "prior_reg": True}))
    (note,) = notes(done)["config.process[0].datasets[1].prior_reg"]
    assert note.kind == "no equivalent"
    assert len(done.data) == 1


def test_a_job_of_another_kind_of_data_is_refused_by_name(clips, imported):
    with pytest.raises(BadImport, match="trains an embedding"):
        imported(job({"folder_path": "clips"}, type="textual_inversion_trainer"))
