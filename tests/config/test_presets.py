"""Presets: over the defaults, under the file, under the command line; left out only by name."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st
from scripts import preset_families

from frisket.config.load import ConfigError, check, load, read
from frisket.config.presets.facts import SHIPPED, ModelFacts, find_facts
from frisket.config.presets.lay import plan_for
from frisket.config.presets.plan import list_presets, plan_preset
from frisket.config.tree import Config
from frisket.families.base import FAMILIES

ROOT = Path(__file__).parents[2]
NUMBERS: dict[tuple[str, str], tuple[float, ...]] = {  # settings of the presets, and other values
    ("losses", "prior"): (0.1, 0.9),
    ("losses", "denoise"): (0.5, 2.0),
    ("swap", "rate"): (0.25, 0.75),
    ("curve", "floor"): (0.125, 0.25),
    ("lora", "rank"): (2, 64),
    ("validation", "every"): (7, 11),
    ("optimizer", "lr"): (0.25, 0.5),  # of no preset
}
SETTINGS = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(NUMBERS[key]) for key in NUMBERS}
)
WAN = ModelFacts(
    "wan x",
    video=True,
    sees="nothing",
    routes=True,
    words={
        "backgrounds": ["a wall"],
        "bank_prompt": "{background}",
        "template": "{caption}, {background}",
    },
)


def write_config(path: Path, tree: dict[str, Any]) -> Path:
    path.write_text(tomlkit.dumps(tree), encoding="utf-8")
    return path


def nest(values: dict[tuple[str, str], float], **tree: Any) -> dict[str, Any]:
    for (section, name), value in values.items():
        tree.setdefault(section, {})[name] = value
    return tree


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("presets")


@settings(deadline=None, max_examples=60)
@given(preset=st.sampled_from(["", *list_presets()]), file=SETTINGS, line=SETTINGS)
def test_command_line_over_file_over_preset_over_default(
    folder: Path, preset: str, file: dict, line: dict
) -> None:
    variant = "video" if preset == "motion" else "image"
    data = [{"clips": "clips", "masks": "masks"}]
    tree = nest(file, preset=preset, model={"family": "pocket", "variant": variant}, data=data)
    tree.setdefault("swap", {})["prompts"] = ["a wall"]
    path = write_config(folder / "frisket.toml", tree)
    config, origin = read(path, [f"{'.'.join(key)}={value}" for key, value in line.items()])
    plan = plan_preset(preset, find_facts("pocket", variant), masks=True) if preset else None
    for key in NUMBERS:
        setting = plan.find(key) if plan else None
        default = getattr(getattr(Config(), key[0]), key[1])
        layers = [line.get(key), file.get(key), setting.value if setting else None, default]
        expected = next(value for value in layers if value is not None)
        assert getattr(getattr(config, key[0]), key[1]) == expected
        place = origin.where(key)
        if key in line:
            assert place.startswith("--set")
        elif key in file:
            assert place.startswith("frisket.toml line")
        elif setting:
            assert place == f"preset {preset} (frisket.toml line 1)"


def family_has_no_weights(name: str) -> bool:
    return FAMILIES.load(name).leaves_out_tokens


@pytest.mark.parametrize("family", FAMILIES.names())
@pytest.mark.parametrize("preset", list_presets())
@pytest.mark.parametrize("masks", ["masks", "none"])
def test_every_preset_loads_for_every_model_or_says_what_it_leaves_out(
    family: str, preset: str, masks: str, tmp_path: Path
) -> None:
    for name, variant in FAMILIES.load(family).variants.items():
        data = {"clips": "clips", "masks": masks}
        if variant.sees == "pictures":
            data["references"] = "references"
        tree = {"preset": preset, "model": {"family": family, "variant": name}, "data": [data]}
        path = write_config(tmp_path / "frisket.toml", tree)
        if preset == "motion" and not variant.video:
            with pytest.raises(ConfigError, match=r"frisket\.toml line 1: preset: motion is for"):
                load(path)
            continue
        if family_has_no_weights(family):
            with pytest.raises(ConfigError, match=r"line 1: preset: .* begins from random ones"):
                load(path)
            tree["model"]["source"] = "runs/first/model"
            write_config(path, tree)
        config, origin = read(path)
        check(config, origin)
        plan = plan_preset(preset, find_facts(family, name, "x"), masks=masks != "none")
        left_out = {key for key, _ in plan.left_out}
        for setting in plan.settings:
            assert setting.key not in left_out
            value: Any = config
            for part in setting.key:
                value = value[part] if isinstance(value, dict) else getattr(value, part)
            found = list(value) if isinstance(value, tuple) else value
            assert found == setting.value, setting.key
        if preset == "character":
            assert (("losses", "prior") in left_out) == (masks == "none")
            pictures = masks == "none" or variant.sees == "pictures"
            assert (("swap", "rate") in left_out) == pictures
            assert bool(list(plan.tell_left_out())) == bool(plan.left_out)


def test_a_terms_own_table_keeps_the_presets_strength_unless_the_preset_has_it_off() -> None:
    tree = {"preset": "character", "data": [{"clips": "c", "masks": "m"}]}
    losses = {"prior": {"t_power": 1.0}, "attention": {"form": "mse"}}
    config = Config.model_validate({**tree, "losses": losses})
    assert config.losses.terms["prior"] == {"strength": 0.5, "t_power": 1.0}
    assert config.losses.terms["attention"] == {"strength": 1.0, "form": "mse"}


def test_a_named_table_of_regions_keeps_its_background() -> None:
    tree = {"preset": "style", "data": [{"clips": "c", "masks": "m"}]}
    assert Config.model_validate(tree).region_weights == {"subject": 1.0, "background": 1.0}
    chosen = Config.model_validate({**tree, "regions": "person"})
    assert chosen.region_weights["background"] == 0.0


def test_a_name_that_is_none_is_refused_with_its_line_and_the_nearest(tmp_path: Path) -> None:
    path = write_config(tmp_path / "a.toml", {"preset": "charcter"})
    with pytest.raises(ConfigError, match=r"a\.toml line 1: .*did you mean 'character'"):
        load(path)


def test_what_a_preset_sets_is_named_when_it_is_refused(tmp_path: Path) -> None:
    tree = {"preset": "character", "data": [{"clips": "c", "masks": "m"}]}
    path = write_config(tmp_path / "a.toml", tree | {"swap": {"prompts": []}})
    with pytest.raises(ConfigError, match="needs `prompts`"):
        load(path)
    _, origin = read(write_config(path, tree))
    assert origin.where(("swap", "rate")) == "preset character (a.toml line 1)"


def test_needs_leave_out_what_a_model_cannot_do() -> None:
    shown = ModelFacts("x", True, "first_frame", False, WAN.words)
    plan = plan_preset("character", shown, masks=True)
    assert plan.has_value(("swap", "source"), "clips")
    assert plan.find(("swap", "prompts")) is None
    assert any("swap.prompts" in line for line in plan.tell_left_out())
    assert plan_preset("character", WAN, masks=True).left_out == ()


def test_all_weights_leave_out_what_needs_a_base_or_a_lora(tmp_path: Path) -> None:
    tree = {"preset": "character", "data": [{"clips": "c", "masks": "m"}]}
    path = write_config(tmp_path / "a.toml", tree | {"model": {"family": "pocket"}})
    config, origin = read(path, ["model.train=all"])
    check(config, origin)
    assert "prior" not in config.losses.terms
    assert config.swap.rate == 0.5
    plan = plan_preset("character", find_facts("pocket"), masks=True, base=False)
    left_out = [key for key, _ in plan.left_out]
    assert left_out[:2] == [("losses", "prior"), ("lora", "kind")]


def test_an_attention_term_of_the_file_turns_the_presets_routing_off(tmp_path: Path) -> None:
    tree = {"preset": "character", "data": [{"clips": "c", "masks": "m"}]}
    path = write_config(tmp_path / "a.toml", tree | {"model": {"family": "wan"}})
    assert load(path).routing.background == 0.25
    for term in ("0.01", '{ form = "mse" }'):
        config = load(path, [f"losses.attention={term}"])
        assert config.routing.background == 1
        plan = plan_for(config.model_dump(mode="json"), "wan")
        assert plan is not None
        assert "routing.background: losses.attention" in " ".join(plan.tell_left_out())
    assert load(path, ["losses.attention={ strength = 0 }"]).routing.background == 0.25


def test_every_value_has_a_reason_and_a_heading_that_is_there() -> None:
    page = (ROOT / "docs" / "effects.md").read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    for name in list_presets():
        for setting in plan_preset(name, WAN, masks=True).settings:
            assert setting.reason
            assert not setting.see or setting.see in anchors, setting.see


def test_the_table_of_families_is_in_date() -> None:
    shipped = json.loads(SHIPPED.read_text(encoding="utf-8"))
    assert shipped == json.loads(preset_families.text()), "run scripts/preset_families.py"


def test_names_of_the_schema_are_those_of_the_table() -> None:
    choices = Config.model_json_schema()["properties"]["preset"]["enum"]
    assert tuple(choices) == ("", *list_presets())


def test_a_preset_is_read_without_torch(tmp_path: Path) -> None:
    path = write_config(tmp_path / "a.toml", {"preset": "style"})
    code = (
        "import sys; from frisket.config.load import load; load(sys.argv[1]);"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
