"""A frozen ControlNet beside a LoRA, and `model.train = "controlnet"`: from controls to samples."""

import json
from pathlib import Path
from typing import Any

import pytest
import tomlkit
import torch
from click.testing import Result
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tests.runs.control.scene import config_of, write_world
from typer.testing import CliRunner

from frisket.cli.app import app
from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Source
from frisket.recipes.train import train
from frisket.runs.memory.estimate import predict
from frisket.training.checkpoint import CheckpointError

NET = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def beside(world: Path) -> Path:
    """A finished LoRA run beside a frozen net, with previews and validations."""
    output = world / "runs" / "beside"
    train(config_of(world, output, preview={"every": 2, "prompts": ["sks"]}, losses={"prior": 0.5}))
    return output


@pytest.fixture(scope="module")
def trained(world: Path) -> Path:
    """A finished run that trained a net from the base."""
    output = world / "runs" / "trained"
    preview = {"every": 2, "prompts": ["sks"]}
    train(config_of(world, output, "controlnet", preview=preview, losses={"prior": 0.5}))
    return output


def read_metrics(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def read_scores(output: Path) -> list[dict[str, Any]]:
    return [line["validation"] for line in read_metrics(output) if "validation" in line]


def read_steps(output: Path) -> list[dict[str, Any]]:
    return [line for line in read_metrics(output) if "loss" in line]


def are_equal(first: Path, second: Path) -> bool:
    one, other = load_file(first), load_file(second)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_first_step_is_the_base_under_control(beside: Path, world: Path) -> None:
    steps = read_steps(beside)
    assert steps[0]["prior"] == 0  # the base has each row's control too, drawn and all
    assert steps[-1]["prior"] > 0
    scores = read_scores(beside)[-1]
    assert scores["base"]["drift/subject"] == 0
    assert scores["tuned"]["drift/subject"] > 0
    output = world / "runs" / "plain"
    train(make_plain(config_of(world, output, run={"steps": 1})))
    assert read_scores(output)[-1]["base"]["loss/subject"] != scores["base"]["loss/subject"]


def make_plain(config: Config) -> Config:
    """The same without any control."""
    data = [item.model_copy(update={"control": None}) for item in config.data]
    return config.model_copy(update={"data": tuple(data), "control": Config().control})


def test_a_lora_beside_a_net_says_so(beside: Path) -> None:
    with safe_open(beside / "lora.safetensors", framework="pt") as opened:
        entry = json.loads(opened.metadata()["frisket.control"])
    assert entry == {
        "source": "pocket-image-net", "confine": "none", "dropout": 0.3, "scale": [0.5, 1.0],
    }  # fmt: skip
    assert "beside a frozen ControlNet" in (beside / "README.md").read_text()
    assert not list(beside.rglob("controlnet"))


@pytest.mark.parametrize("which", ["beside", "trained"])
def test_previews_show_both_sides(which: str, request: pytest.FixtureRequest) -> None:
    output: Path = request.getfixturevalue(which)
    files = sorted((output / "previews").iterdir())
    assert len(files) == 2
    last = Image.open(files[-1])
    width = last.width // 2
    left = last.crop((0, 0, width, 160)).tobytes()
    assert left != last.crop((width, 0, 2 * width, 160)).tobytes()


def test_dropping_every_control_is_the_plain_masked_training(world: Path, tmp_path: Path) -> None:
    tables: dict[str, Any] = {"lora": {"rank": 2, "dropout": 0.3}, "optimizer": {"accumulate": 2}}
    dropped = config_of(
        world, tmp_path / "dropped", control={"dropout": 1.0}, validation={"holdout": 0}, **tables
    )
    plain = make_plain(config_of(world, tmp_path / "plain", validation={"holdout": 0}, **tables))
    train(dropped)
    train(plain)
    assert are_equal(*(config.run.output / "lora.safetensors" for config in (dropped, plain)))
    assert [step["loss"] for step in read_steps(dropped.run.output)] == [
        step["loss"] for step in read_steps(plain.run.output)
    ]


@pytest.mark.slow
def test_scale_and_place_change_what_is_learnt(world: Path, tmp_path: Path) -> None:
    tables: list[dict[str, Any]] = [
        {"dropout": 0.0, "scale": (1.0, 1.0)},
        {"dropout": 0.0, "scale": (0.0, 0.0)},
        {"dropout": 0.0, "scale": (1.0, 1.0), "confine": "inside"},
        {"dropout": 0.0, "scale": (1.0, 1.0), "confine": "outside"},
    ]
    losses = []
    for number, control in enumerate(tables):
        train(config_of(world, tmp_path / str(number), control=control, run={"steps": 1}))
        losses.append(read_steps(tmp_path / str(number))[0]["loss"])
    plain = make_plain(config_of(world, tmp_path / "plain", run={"steps": 1}))
    train(plain)
    assert losses[1] == read_steps(plain.run.output)[0]["loss"]
    assert len(set(losses)) == 4


class PowerCut(BaseException):
    """What no handler catches, as a kill."""


def cut_power(stage: str, step: int, total: int, values: object) -> None:
    if stage == "training" and step == 3:
        raise PowerCut


@pytest.mark.parametrize("kind", [pytest.param("lora", marks=pytest.mark.slow), "controlnet"])
def test_a_killed_run_goes_on_to_the_same_file(world: Path, tmp_path: Path, kind: str) -> None:
    tables: dict[str, Any] = {"optimizer": {"lr": 1e-2, "ema": 0.5}}
    tables["control"] = {"confine": "outside"} | ({"dropout": 0.5} if kind == "lora" else {})
    whole = config_of(world, tmp_path / "whole" / "run", kind, **tables)
    train(whole)
    parts = config_of(
        world, tmp_path / "parts" / "run", kind, **tables, memory={"checkpointing": True}
    )
    with pytest.raises(PowerCut):
        train(parts, progress=cut_power)
    train(parts)  # from step 2 on, and blocks computed twice
    name = "lora.safetensors" if kind == "lora" else f"controlnet/{NET}"
    assert are_equal(*(config.run.output / name for config in (whole, parts)))
    assert read_scores(whole.run.output) == read_scores(parts.run.output)


def test_a_net_begins_as_the_base_and_learns(trained: Path) -> None:
    steps = read_steps(trained)
    assert steps[0]["prior"] == 0
    assert steps[-1]["prior"] > 0
    scores = read_scores(trained)[-1]
    assert scores["base"]["drift/outside"] == 0
    assert scores["tuned"]["drift/outside"] > 0
    assert not list(trained.rglob("lora*"))


def test_a_trained_net_is_a_folder_of_diffusers(trained: Path, world: Path) -> None:
    from diffusers import ControlNetModel

    net: Any = ControlNetModel.from_pretrained(trained / "controlnet")
    weights = load_file(trained / "controlnet" / NET)
    assert all(value.dtype == torch.float32 for value in weights.values())
    assert weights.keys() == net.state_dict().keys()
    record = json.loads((trained / "controlnet" / "frisket.json").read_text())
    assert record["frisket.steps"] == "4"
    assert record["modelspec.architecture"].endswith("/controlnet")
    assert not any(key.startswith("ss_network") for key in record)
    config = (trained / "controlnet" / "config.json").read_text()
    assert str(world) not in json.dumps(record) + config  # nobody's folders
    newest = sorted((trained / "checkpoints").iterdir())[-1] / "controlnet" / NET
    assert newest.read_bytes() == (trained / "controlnet" / NET).read_bytes()
    assert "A ControlNet for pocket image" in (trained / "README.md").read_text()


def test_the_base_keeps_its_weights_and_has_no_gradient(world: Path, tmp_path: Path) -> None:
    from frisket.runs.control.connect import place_net
    from frisket.runs.control.setup import open_net

    config = config_of(world, tmp_path, "controlnet")
    family, source = FAMILIES.load("pocket"), Source("image", config.model.source)
    denoiser = family.load_denoiser(source)
    before = {name: value.clone() for name, value in denoiser.named_parameters()}
    net = open_net(config, family, denoiser, source)
    assert place_net(config, denoiser, net) is not None
    asking = {name for name, value in denoiser.named_parameters() if value.requires_grad}
    assert asking
    assert not asking & before.keys()
    for name, value in before.items():
        assert torch.equal(denoiser.get_parameter(name), value)


def test_a_run_goes_on_from_a_net(world: Path, trained: Path, tmp_path: Path) -> None:
    config = config_of(
        world, tmp_path, "controlnet", control={"source": trained / "controlnet"},
        optimizer={"lr": 1e-30}, run={"steps": 1},
    )  # fmt: skip
    train(config)
    assert are_equal(trained / "controlnet" / NET, tmp_path / "controlnet" / NET)
    other = config.control.model_copy(update={"confine": "inside"})
    with pytest.raises(CheckpointError, match=r"control.confine: 'none' then, 'inside' now"):
        train(config.model_copy(update={"control": other}))


def test_another_net_in_the_same_place_is_another_run(
    world: Path, beside: Path, trained: Path
) -> None:
    config = config_of(world, beside, control={"source": trained / "controlnet"})
    with pytest.raises(CheckpointError, match=r"control.source"):
        train(config.model_copy(update={"losses": type(config.losses)(prior=0.5)}))


def test_memory_is_foretold(world: Path, tmp_path: Path) -> None:
    config = config_of(world, tmp_path)
    net = sum(value.nbytes for value in load_file(world / "pocket-image-net" / NET).values())
    under, plain = predict(config), predict(make_plain(config))
    assert under.weights - plain.weights == pytest.approx(net / 2**20)
    assert under.activations > plain.activations
    assert under.adapter == plain.adapter
    train_net = predict(config_of(world, tmp_path, "controlnet"))
    assert train_net.adapter == pytest.approx(net / 2**20)
    assert train_net.weights == pytest.approx(plain.weights)
    assert train_net.optimizer == pytest.approx(2 * net / 2**20)


def run_command(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def write_config(config: Config, path: Path) -> Path:
    tree = config.model_dump(mode="json", exclude_none=True)
    path.write_text(tomlkit.dumps(tree), encoding="utf-8")
    return path


def test_the_command_line_samples_with_what_was_trained(
    world: Path, trained: Path, tmp_path: Path
) -> None:
    file = write_config(config_of(world, trained, "controlnet"), tmp_path / "run.toml")
    told = run_command("generate", file, "-p", "sks")
    assert told.exit_code != 0
    printed = " ".join(told.output.replace("│", " ").split())  # long paths break its lines
    assert "is a ControlNet, which follows a picture" in printed
    control = world / "data" / "control" / "0.png"
    words = ("generate", file, "-p", "sks", "--steps", 2, "--control", control)
    done = run_command(*words, "--compare", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in (tmp_path / "out").glob("000*"))
    assert names == ["000-sks-0-base.png", "000-sks-0-control.png"]
    record = json.loads((tmp_path / "out" / "generate.json").read_text())
    assert record["control"]["scale"] == 1.0
    assert record["control"]["picture"][0]["path"] == str(control)
    assert {Path(entry["path"]).name for entry in record["control"]["net"]} >= {NET, "config.json"}
    off = run_command(*words, "--control-scale", 0, "-o", tmp_path / "off")
    assert off.exit_code == 0, off.output
    plain = (tmp_path / "out" / "000-sks-0-base.png").read_bytes()
    assert (tmp_path / "off" / "000-sks-0.png").read_bytes() == plain
    assert (tmp_path / "out" / "000-sks-0-control.png").read_bytes() != plain


@pytest.mark.slow
def test_a_lora_samples_under_the_net_it_was_trained_beside(
    world: Path, beside: Path, tmp_path: Path
) -> None:
    file = write_config(config_of(world, beside), tmp_path / "run.toml")
    control, mask = (world / "data" / name / "0.png" for name in ("control", "masks"))
    words = ("generate", file, "-p", "sks", "--steps", 2, "--control", control)
    done = run_command(*words, "--compare", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    names = [path.stem.removeprefix("000-sks-0-") for path in (tmp_path / "out").glob("000*")]
    assert sorted(names) == ["base", "control", "lora", "lora+control"]
    pictures = {path.read_bytes() for path in (tmp_path / "out").glob("000*")}
    masked = run_command(*words, "--control-mask", mask, "-o", tmp_path / "masked")
    assert masked.exit_code == 0, masked.output
    pictures.add((tmp_path / "masked" / "000-sks-0.png").read_bytes())
    assert len(pictures) == 5
