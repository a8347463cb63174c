"""What the page asks of a configuration that needs torch: in the command line's own words."""

from pathlib import Path
from typing import Any

import pytest

from frisket.config.load import ConfigError, check, load, read
from frisket.recipes.doctor import doctor
from frisket.recipes.serve.answer import find_operation
from frisket.recipes.serve.session import Session
from frisket.runs.memory.estimate import predict
from frisket.runs.memory.report import estimate_need, with_change

POCKET = '[[data]]\nclips = "clips"\nresolution = 32\n[run]\nbatch = 2\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "clips").mkdir()
    return tmp_path / "frisket.toml"


def ask(name: str, **args: Any) -> dict[str, Any]:
    session = Session(lambda *_: None)
    return find_operation(name)(session, {key: value for key, value in args.items()}).value


@pytest.mark.parametrize(
    "more",
    [
        '[model]\nfamily = "pockett"\n',
        '[model]\nvariant = "imge"\n',
        "[losses]\ndenoise = { strength = 1.0, kindd = 2 }\n",
        '[optimizer]\nname = "adamm"\n[losses]\npriorr = 1.0\n',
        '[memory]\nquantise = "nf4"\n',
    ],
)
def test_what_needs_the_shelves_is_refused_in_the_same_words(path: Path, more: str) -> None:
    text = POCKET + more
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        check(*read(path))
    answer = ask("config.check", path=str(path), text=text)
    lines = [f"frisket.toml line {each['line']}: {each['message']}" for each in answer["problems"]]
    assert lines == str(refused.value).splitlines()


def test_what_a_run_refuses_is_what_doctor_says(path: Path) -> None:
    text = POCKET + 'trackers = ["trackio"]\n'
    path.write_text(text)
    refused = [each.message for each in doctor(path) if each.about == "training"]
    answer = ask("config.check", path=str(path), text=text)
    assert answer["refusals"] == refused
    assert "pip install" in refused[0]
    answer = ask("config.check", path=str(path), text=POCKET)
    assert (answer["problems"], answer["refusals"]) == ([], [])
    assert answer["opening"] == ["pocket image on cpu"]


def test_a_preset_makes_a_configuration_of_its_model(path: Path) -> None:
    path.write_text(POCKET)
    answer = ask("config.preset", family="wan", variant="2.1-t2v-14b", card=12, sets=1)
    changes = {tuple(each["key"]): each.get("value") for each in answer["changes"]}
    assert changes["model", "family"] == "wan"
    assert changes["memory", "quantise"] == "nf4"
    assert changes["data", 0, "frames"] == 33
    assert answer["peak_gib"] == 9.5
    example = Path(__file__).parents[3] / "examples/families/wan-2.1-t2v-14b-12gb.toml"
    written = load(example)
    for key, value in changes.items():
        if key[0] == "memory":
            usual = type(written.memory).model_fields[key[1]].default
            assert getattr(written.memory, key[1]) == (usual if value is None else value)
    with pytest.raises(ValueError, match="no preset for 13 GB"):
        ask("config.preset", family="wan", variant="2.1-t2v-14b", card=13)
    with pytest.raises(ValueError, match="no model"):
        ask("config.preset", family="wan", variant="x", card=0)


@pytest.mark.slow
def test_every_model_of_the_shelf_can_be_chosen() -> None:
    answer = ask("config.choices")
    for family in answer["families"]:
        assert family["default"] in {variant["name"] for variant in family["variants"]}
    assert {"denoise", "prior", "attention"} <= answer["terms"].keys()
    assert "kind" in {option["name"] for option in answer["terms"]["denoise"]}


def test_memory_is_what_doctor_foretells_corrected_by_what_a_run_took(path: Path) -> None:
    path.write_text(POCKET)
    foretold = predict(load(path))
    measured = {"config": str(path), "peak_mib": foretold.total * 1.06 * 1.25, "run": "first"}
    args = {"path": str(path), "text": POCKET}
    answer = ask("memory.estimate", **args, room_mib=16384.0, measured=measured)
    assert sum(answer["parts"].values()) == pytest.approx(answer["training"])
    assert answer["need"] == estimate_need(foretold)
    assert (answer["changes"], answer["enough"]) == ([], True)
    assert answer["factor"] == pytest.approx(1.25)
    gone = {**measured, "config": str(path.with_name("gone.toml"))}
    assert ask("memory.estimate", **args, measured=gone)["factor"] is None


@pytest.mark.slow
def test_the_switches_save_what_they_say(path: Path) -> None:
    path.write_text(POCKET)
    config = load(path)
    savings = ask("memory.savings", path=str(path), text=POCKET)["switches"]
    words = [each["words"] for each in savings]
    assert len(set(words)) == len(words) > 2
    for each in savings:
        change = {".".join(one["key"]): one["value"] for one in each["changes"]}
        saved = estimate_need(predict(config)) - estimate_need(predict(with_change(config, change)))
        assert each["saves"] == pytest.approx(saved)
