"""`frisket doctor`: what is missing is named with its fix, on this machine for real."""

import os
from importlib import metadata

import pytest

from frisket.config.tree import Config
from frisket.recipes import doctor as room
from frisket.recipes.doctor import doctor
from frisket.runs.memory.estimate import Prediction
from frisket.runs.memory.report import against, estimate_need, fits, format_change, with_change


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
    assert about(findings, "torch")[0].message == metadata.version("torch")
    assert "cores" in about(findings, "cpu")[0].message
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
    for override, said in {
        "optimizer.name=adamw8bits": "adamw8bit",
        "losses.prior=-0.5": "`losses.prior` should be",
        "losses.denoise={strength=-1}": "should be 0 or more",
    }.items():
        (finding,) = about(doctor(config, [override]), "config")
        assert finding.verdict == "missing"
        assert said in finding.message
    (finding,) = about(doctor(config, ["lora.rang=3"]), "config")
    assert finding.verdict == "missing"
    assert "did you mean `rank`" in finding.message


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
    assert said in finding.message


def test_a_config_without_data(tmp_path):
    (tmp_path / "empty.toml").touch()
    (finding,) = about(doctor(tmp_path / "empty.toml"), "data")
    assert "frisket init" in finding.fix


def test_weights_on_the_hub_while_it_is_off(config):
    asked = ["model.family=stable_diffusion", "data.0.resolution=256"]
    (finding,) = about(doctor(config, asked), "weights")
    assert finding.verdict == "missing"  # the suite runs with HF_HUB_OFFLINE=1
    assert "stable-diffusion-v1-5/" in finding.message
    assert "HF_HUB_OFFLINE" in finding.fix


def test_memory_is_foretold_and_the_card_named(config):
    (finding,) = about(doctor(config), "memory")
    assert finding.verdict == "ok"
    assert "training peaks at" in finding.message
    assert "a card of 8 GB or more" in finding.message


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("memory.storage=float8", "saves nothing without gradient checkpointing"),
        ("memory.attention=sage", "no gradient"),
        ('lora.targets=["to_z"]', "to_z"),
        ("memory.swap_blocks=3000", "blocks to swap"),
        ("optimizer.options={betaz=3}", "betaz"),
        ('losses.prior={strength=1, teacher="ema"}', "needs optimizer.ema"),
    ],
)
def test_what_training_would_refuse_is_said_before_it_starts(config, override, said):
    (finding,) = about(doctor(config, [override]), "training")
    assert finding.verdict == "missing"
    assert said in finding.message


def foretold(config: Config) -> Prediction:
    """Of a made-up model of 10 GiB in float32, with 30 blocks: each switch does what it does."""
    memory = config.memory
    half = config.model.dtype == "bfloat16"
    weights = {"nf4": 1400.0, "none": 5120.0 if half else 10240.0}[memory.quantise]
    weights /= 2 if memory.storage == "float8" else 1
    waiting = weights * 0.9 * memory.swap_blocks / 30
    activations = (1000.0 if memory.checkpointing else 8000.0) * config.run.batch
    return Prediction(
        weights - waiting, 100.0, 200.0, 100.0, activations, 500.0, None, waiting, (1,) * 5, 30
    )


@pytest.fixture
def large():
    tree = {"run": {"batch": 2}, "memory": {"checkpointing": False}}
    return Config.model_validate(tree)


@pytest.mark.parametrize(
    ("gib", "names"),
    [
        (48, []),
        (24, ["model.dtype", "run.precision"]),
        (12, ["memory.checkpointing"]),
        (8, ["memory.checkpointing", "run.batch", "optimizer.accumulate"]),
        (6, ["memory.storage=float8"]),
        (4, ["memory.storage=float8", "memory.swap_blocks=16"]),
    ],
)
def test_switches_come_in_the_order_of_their_cost(large, gib, names):
    changes = fits(large, gib * 1024.0, foretold)
    wanted = " ".join(format_change(change) for _, change in changes)
    assert all(name in wanted for name in names)
    assert bool(changes) == bool(names)
    changed = large
    for _, change in changes:
        changed = with_change(changed, change)
    assert estimate_need(foretold(changed)) <= gib * 1024
    without = large
    for _, change in changes[:-1]:
        without = with_change(without, change)
    assert not changes or estimate_need(foretold(without)) > gib * 1024


def test_a_card_on_which_nothing_helps(large):
    told = against(large, 1024.0, foretold)
    assert told.verdict == "missing"
    assert "lower [[data]] resolution or frames" in told.fix
    assert "a card of 8 GB" in told.fix


def test_a_card_that_is_large_enough(large):
    told = against(large, 48 * 1024.0, foretold)
    assert told.verdict == "ok"
    assert not told.fix
    assert "not known here: the text encoder" in told.message


@pytest.mark.parametrize("wanted", ["surely-not-there>=1", "torch>=99", "numpy<1"])
def test_packages_missing_or_outside_their_bounds(monkeypatch, wanted):
    monkeypatch.setattr(metadata, "requires", lambda _: [wanted])
    (_, finding) = room._check_versions()
    assert finding.verdict == "missing"
    assert finding.fix == f"pip install '{wanted}'"


def test_a_nearly_full_disk_is_noted(tmp_path, monkeypatch):
    room_left = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    monkeypatch.setattr(room, "ROOMY", room_left * 2)
    (finding,) = room._check_folder("cache", tmp_path / "cache")
    assert finding.verdict == "note"
    assert "GiB free" in finding.message


def test_nothing_waits_for_a_network(config, monkeypatch):
    """With a network that hangs, a doctor that asks it would hang too."""
    asked = []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.socket.connect", lambda *args: asked.append(args))
    settings = ["model.family=stable_diffusion", "data.0.resolution=256"]
    (finding,) = about(doctor(config, settings), "memory")
    assert "training peaks at" in finding.message
    assert asked == []
