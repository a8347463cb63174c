"""`kind = "instantid"`, `"uniid-text"` and `"uniid-adapter"`: methods trained from a config."""

import json
import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.runs.image_adapters.scene import measure_adapter
from tests.runs.image_adapters.stages import (
    SIDE,
    ask_command,
    config_of_stage,
    sample_pictures,
    write_stages,
)

from frisket.adapters.image.branches import read_branch
from frisket.adapters.image.instantid import InstantIdModules
from frisket.config.load import ConfigError, check
from frisket.config.run_config import TRAINED, write_trained
from frisket.config.tree import Config
from frisket.recipes.train import train
from frisket.runs.image_adapters.references import prepare_references
from frisket.runs.memory.estimate import predict
from frisket.runs.prepare import prepare
from frisket.runs.refusals import stop_if_refused

POCKET: dict[str, Any] = {"family": "pocket", "variant": "image", "source": ""}
POCKET_DIT = {**POCKET, "variant": "dit"}
KINDS = ("instantid", "uniid-text", "uniid-adapter")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stages(tmp_path_factory.mktemp("stages"))


def look(config: Config) -> None:
    check(config)
    stop_if_refused(config)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_the_public_layout_and_it_samples(
    world: Path, tmp_path: Path, kind: str
) -> None:
    config = config_of_stage(
        world, tmp_path / "run", kind,
        preview={"every": 2, "prompts": ["a person"], "steps": 2, "height": 64, "width": 64},
        losses={"prior": 0.5}, image_adapter={"confine": kind != "uniid-text"},
    )  # fmt: skip
    look(config)
    result = train(config)
    assert result.image_adapter is not None
    assert list((tmp_path / "run" / "previews").iterdir())
    metrics = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert all(line["prior"] >= 0 for line in metrics if "prior" in line)
    assert any("validation" in line for line in metrics)
    if kind == "instantid":
        net = InstantIdModules.from_folder(tmp_path / "run" / "instantid").identity_net
        assert all(bool(value.any()) for value in net.controlnet_mid_block.parameters())
    else:
        assert read_branch(result.image_adapter).kind == kind
    assert len(set(sample_pictures(config, ask_command(config)))) > 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["instantid", "uniid-adapter"])
def test_a_killed_run_goes_on_to_the_same_files(world: Path, tmp_path: Path, kind: str) -> None:
    tables: dict[str, Any] = {
        "optimizer": {"lr": 1e-2, "ema": 0.5},
        "image_adapter": {"references": "other", "dropout": 0.5},
        "run": {"steps": 4},
    }
    whole_config = config_of_stage(world, tmp_path / "whole" / "run", kind, **deepcopy(tables))
    train(whole_config)

    class PowerCut(BaseException):
        pass

    def cut(stage: str, step: int, total: int, values: object) -> None:
        if stage == "training" and step == 3:
            raise PowerCut

    tables["memory"] = {"checkpointing": True}
    parts_config = config_of_stage(world, tmp_path / "parts" / "run", kind, **tables)
    with pytest.raises(PowerCut):
        train(parts_config, progress=cut)
    result = train(parts_config)  # from step 2 on, and blocks computed twice
    assert result.image_adapter is not None
    files = sorted(path for path in result.image_adapter.rglob("*") if path.is_file())
    assert len(files) > 1
    for path in files:
        other = tmp_path / "whole" / path.relative_to(tmp_path / "parts")
        assert path.read_bytes() == other.read_bytes(), path


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_begins_with_what_another_left(world: Path, tmp_path: Path, kind: str) -> None:
    first = train(config_of_stage(world, tmp_path / "first", kind)).image_adapter
    again = train(
        config_of_stage(
            world,
            tmp_path / "again",
            kind,
            image_adapter={"source": first},
            optimizer={"lr": 1e-30},
            run={"steps": 1},
        )
    ).image_adapter
    assert first is not None
    assert again is not None
    weights = [path for path in first.rglob("*") if path.suffix in (".bin", ".safetensors")]
    for path in weights:
        before, after = (read_weights(place / path.relative_to(first)) for place in (first, again))
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    content = torch.load(path, weights_only=True)
    flat = {}
    for key, value in content.items():
        parts = value.items() if isinstance(value, dict) else [("", value)]
        flat |= {f"{key}.{name}": tensor for name, tensor in parts}
    return flat


def test_key_points_and_faces_follow_the_clip(world: Path, tmp_path: Path) -> None:
    """Mirrored clips have mirrored key points, and a face of their own."""
    data = {"clips": world / "clips", "masks": world / "masks", "caption": "a person"}
    data |= {"resolution": 64, "flip": True}
    config = config_of_stage(world, tmp_path / "run", "instantid", data=[data])
    prepared = prepare(config)
    references = prepare_references(config, prepared)
    points, rows = {}, {}
    for item, key in zip(prepared.items, references.own_keys, strict=True):
        tensors = references.store.load("reference", key).tensors
        points[item.clip, item.flip], rows[item.clip, item.flip] = (
            tensors["keypoints"],
            tensors["embedding"],
        )
    for (clip, flip), shares in points.items():
        entry = json.loads(Path(clip).with_suffix(".keypoints.json").read_text())
        noted = (torch.tensor(entry["faces"][0]["points"]) + 0.5) / SIDE
        if flip:
            noted = torch.stack([1 - noted[:, 0], noted[:, 1]], 1)[[1, 0, 2, 4, 3]]
        torch.testing.assert_close(shares, noted, atol=1e-5, rtol=0)
        assert not torch.equal(rows[clip, True], rows[clip, False])
        assert float(rows[clip, flip].norm()) > 1.5  # raw, not a direction


@pytest.mark.parametrize(
    ("kind", "tables", "message"),
    [
        ("instantid", {"model": POCKET_DIT}, "is for UNets"),
        ("instantid", {"image_adapter": {"width": 64}}, "`image_adapter.width` = 64"),
        ("instantid", {"image_adapter": {"source": Path("x.bin")}}, "it is no folder"),
        ("uniid-text", {"image_adapter": {"source": Path("x.bin")}}, "it is no folder"),
        ("uniid-text", {"image_adapter": {"embedder": "tiny"}}, 'set it to "iresnet"'),
        ("uniid-text", {"model": POCKET}, "this model reads text of 64"),
        ("instantid", {"mix": {"rate": 0.5}}, "a mix has subjects of several clips"),
        ("uniid-adapter", {"image_adapter": {"detector": ""}}, "`image_adapter.detector` is not"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_work(
    world: Path, tmp_path: Path, kind: str, tables: dict[str, Any], message: str
) -> None:
    table = tables.get("image_adapter", {})
    if table.get("embedder") == "tiny":
        table = {**table, "embedder_source": None}
    with pytest.raises(ConfigError, match=message):
        look(config_of_stage(world, tmp_path, kind, **{**tables, "image_adapter": table}))


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_foretold(world: Path, tmp_path: Path, kind: str) -> None:
    config = config_of_stage(world, tmp_path, kind)
    assert predict(config, prepare=False).adapter == pytest.approx(measure_adapter(config))


# `frisket train` in each of several processes, which then leave what each has at the end.
RANKS = """
import sys, torch
import frisket.recipes.train as recipe
run = recipe._run_trainer
def leave(config, trainer, *more):
    begun = {name: value.detach().clone() for name, value in trainer.parameters.items()}
    seconds = run(config, trainer, *more)
    ended = {name: value.detach() for name, value in trainer.parameters.items()}
    file = config.run.output / f"rank-{trainer.accelerator.process_index}.pt"
    torch.save({"begun": begun, "ended": ended}, file)
    return seconds
recipe._run_trainer = leave
from frisket.cli.app import app
app(["train", sys.argv[1]])
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_one_adapter(world: Path, tmp_path: Path, kind: str) -> None:
    """Gradients of both ranks, whose noise and clips differ, reach every weight of both."""
    config = config_of_stage(
        world, tmp_path / "run", kind,
        losses={"normalise": "global"}, image_adapter={"references": "other", "dropout": 0.0},
        optimizer={"lr": 1e-2}, run={"steps": 3, "batch": 1, "save_every": 0, "threads": 1},
    )  # fmt: skip
    write_trained(config, tmp_path)
    (tmp_path / "ranks.py").write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += [str(tmp_path / "ranks.py"), str(tmp_path / TRAINED)]
    subprocess.run(command, check=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})
    first, second = (
        torch.load(tmp_path / "run" / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    for name, value in first["ended"].items():
        assert torch.equal(value, second["ended"][name]), name
    stayed = [
        name for name, value in first["begun"].items() if torch.equal(value, first["ended"][name])
    ]
    assert not stayed
