"""`frisket doctor`: what is missing is named with its fix, on this machine for real."""

import os
from importlib import metadata

import pytest

from frisket.recipes import doctor as room
from frisket.recipes.doctor import doctor


def about(findings, name):
    """The findings on one thing."""
    return [finding for finding in findings if finding.about == name]


@pytest.fixture
def config(tmp_path):
    """A config that asks for nothing this machine lacks."""
    (tmp_path / "clips").mkdir()
    path = tmp_path / "run.toml"
    path.write_text('[[data]]\nclips = "clips"\n[model]\ndevice = "cpu"\n', encoding="utf-8")
    return path


def test_this_machine_has_all_that_is_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    findings = doctor()
    assert [finding for finding in findings if finding.verdict == "missing"] == []
    assert about(findings, "torch")[0].said == metadata.version("torch")
    assert "cores" in about(findings, "cpu")[0].said
    assert {"codec h264", "codec libx264", "codec ffv1"} <= {each.about for each in findings}
    assert list(tmp_path.iterdir()) == []


def test_whatever_is_not_well_has_a_fix(config):
    findings = doctor(config, ["data.0.clips=none", "run.output=/proc/nowhere"])
    assert all(finding.fix for finding in findings if finding.verdict != "ok")


def test_a_good_config_is_understood(config):
    findings = doctor(config)
    assert about(findings, "config")[0].verdict == "ok"
    assert about(findings, "clips")[0].verdict == "ok"
    assert about(findings, "weights")[0].verdict == "ok"


def test_a_mistake_in_the_config_is_a_finding_not_a_crash(config):
    (finding,) = about(doctor(config, ["lora.rang=3"]), "config")
    assert finding.verdict == "missing"
    assert "did you mean `rank`" in finding.said


@pytest.mark.parametrize(
    ("override", "name", "said"),
    [
        ("data.0.clips=none", "clips", "none does not exist"),
        ("data.0.masks=run.toml", "masks", "run.toml is a file"),
        ("data.0.captions=words.jsonl", "captions", "words.jsonl does not exist"),
        ("lora.source=old.safetensors", "lora", "old.safetensors does not exist"),
        ("model.device=cuda:7", "device", "asks for cuda:7"),
        ("model.source=./weights", "weights", "weights does not exist"),
        ("run.output=run.toml/out", "output", "run.toml is a file"),
    ],
)
def test_what_the_config_names_and_is_not_there(config, override, name, said):
    (finding,) = about(doctor(config, [override]), name)
    assert finding.verdict == "missing"
    assert said in finding.said


def test_a_config_without_data(tmp_path):
    (tmp_path / "empty.toml").touch()
    (finding,) = about(doctor(tmp_path / "empty.toml"), "data")
    assert "frisket init" in finding.fix


def test_weights_on_the_hub_while_it_is_off(config):
    (finding,) = about(doctor(config, ["model.family=wan"]), "weights")
    assert finding.verdict == "missing"  # the suite runs with HF_HUB_OFFLINE=1
    assert "Wan-AI/" in finding.said
    assert "HF_HUB_OFFLINE" in finding.fix


@pytest.mark.parametrize("wanted", ["surely-not-there>=1", "torch>=99", "numpy<1"])
def test_packages_missing_or_outside_their_bounds(monkeypatch, wanted):
    monkeypatch.setattr(metadata, "requires", lambda _: [wanted])
    (_, finding) = room._versions()
    assert finding.verdict == "missing"
    assert finding.fix == f"pip install '{wanted}'"


def test_a_nearly_full_disk_is_noted(tmp_path, monkeypatch):
    room_left = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    monkeypatch.setattr(room, "ROOMY", room_left * 2)
    (finding,) = room._folder("cache", tmp_path / "cache")
    assert finding.verdict == "note"
    assert "GiB free" in finding.said
