"""`frisket explain` and `init --preset`: every value in force with its source, and back again."""

import json
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from frisket.config.load import ConfigError, load
from frisket.config.presets.facts import find_facts
from frisket.config.presets.plan import list_presets, plan_preset
from frisket.recipes.init.write import init
from frisket.recipes.provenance.values import explain_config
from frisket.recipes.provenance.write import write_lines, write_toml
from frisket.recipes.quickstart import MASKS, PRIOR, VARIANTS, make_project
from frisket.runs.opening import opening
from frisket.runs.quickstart_data import make_clips

TREE: dict[str, Any] = {
    "preset": "character",
    "model": {"family": "pocket"},
    "data": [{"clips": "clips", "masks": "masks", "trigger": "sks"}],
    "losses": {"prior": {"t_power": 1.0}},
    "validation": {"data": [{"clips": "held"}]},
}


def write_config(path: Path, tree: dict[str, Any]) -> Path:
    path.write_text(tomlkit.dumps(tree), encoding="utf-8")
    return path


def test_each_value_has_its_source_and_the_preset_its_reason(tmp_path: Path) -> None:
    path = write_config(tmp_path / "a.toml", TREE)
    values = {each.key: each for each in explain_config(path, ["lora.rank=4"]).values}
    sources = {
        ("lora", "rank"): "command line",
        ("data", 0, "trigger"): "file",
        ("data", 0, "masks", "path"): "file",
        ("data", 0, "masks", "grow"): "default",
        ("losses", "prior", "t_power"): "file",
        ("losses", "prior", "strength"): "preset",
        ("swap", "rate"): "preset",
        ("optimizer", "lr"): "default",
        ("model", "variant"): "model",
        ("preview", "steps"): "model",
    }
    assert {key: values[key].source for key in sources} == sources
    assert values["swap", "rate"].value == 0.5
    assert "docs/effects.md#" in values["swap", "rate"].comment
    assert values["lora", "rank"].comment == "--set lora.rank=4"
    lines = list(write_lines(explain_config(path)))
    assert sum(line.startswith("rate = 0.5") for line in lines) == 1


@pytest.mark.parametrize("preset", list_presets())
def test_what_is_written_is_the_same_configuration(preset: str, tmp_path: Path) -> None:
    tree = {**TREE, "preset": preset}
    tree["model"] = {"family": "pocket", "variant": "video" if preset == "motion" else "image"}
    path = write_config(tmp_path / "a.toml", tree)
    settings = ['regions.face={weight=0.5, phrase="sks"}', "preview.seeds=[1, 2]"]
    (tmp_path / "elsewhere").mkdir()
    again = tmp_path / "elsewhere" / "b.toml"
    again.write_text(write_toml(explain_config(path, settings)), encoding="utf-8")
    assert load(again) == load(path, settings)


def test_what_is_left_out_is_said_by_explain_and_at_the_start_of_a_run(tmp_path: Path) -> None:
    path = write_config(tmp_path / "a.toml", {**TREE, "data": [{"clips": "clips"}]})
    note = "preset character leaves out losses.prior, swap.rate"
    assert any(line.startswith(note) for line in explain_config(path).notes)
    assert sum(line.startswith(note) for line in opening(load(path))) == 1


@pytest.mark.parametrize("preset", ["character", "object", "style"])
def test_init_writes_a_preset_in_full(preset: str, tmp_path: Path) -> None:
    make_clips(tmp_path, seed=0)
    path = tmp_path / "frisket.toml"
    init(tmp_path, path, preset=preset)
    tree = tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    assert tree["preset"] == preset
    plan = plan_preset(preset, find_facts("pocket"), masks=True)
    for setting in plan.settings:
        value: Any = tree
        for part in setting.key:
            value = value[part]
        assert value == setting.value
        assert f"# {setting.reason}" in path.read_text(encoding="utf-8")
    without = write_config(tmp_path / "b.toml", {**tree, "preset": ""})
    assert load(path).model_copy(update={"preset": ""}) == load(without)


def test_init_refuses_a_preset_that_has_no_meaning(tmp_path: Path) -> None:
    make_clips(tmp_path, seed=0)
    with pytest.raises(ConfigError, match="motion is for models that make clips"):
        init(tmp_path, tmp_path / "a.toml", preset="motion")
    with pytest.raises(ConfigError, match="did you mean 'style'"):
        init(tmp_path, tmp_path / "a.toml", preset="styl")
    assert not (tmp_path / "a.toml").exists()


def test_the_quick_starts_last_row_is_the_recipe_that_was_measured(tmp_path: Path) -> None:
    make_project(tmp_path, seed=0)
    path = tmp_path / "frisket.toml"
    preset = json.loads(load(path, VARIANTS["character"]).model_dump_json())
    measured = json.loads(load(path, (MASKS, PRIOR, "swap.rate=0.5")).model_dump_json())
    assert preset.pop("preset") == "character"
    assert measured.pop("preset") == ""
    # With nothing held out this asks for nothing.
    assert preset["validation"].pop("every") == 250
    assert preset["validation"]["holdout"] == measured["validation"]["holdout"] == 0
    del measured["validation"]["every"]
    assert preset == measured
