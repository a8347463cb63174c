"""`kind = "instantid"`, `"uniid-text"` and `"uniid-adapter"`: methods trained from a config."""

import json
import shlex
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tests.runs.image_adapters.scene import config_of
from typer.testing import CliRunner

from frisket.adapters.image.branches import read_branch
from frisket.adapters.image.instantid import InstantIdModules
from frisket.cli.app import app
from frisket.config.load import ConfigError, check
from frisket.config.run_config import TRAINED
from frisket.config.tree import Config
from frisket.faces.iresnet import IResNet, IResNetShape
from frisket.families import tiny
from frisket.families.base import FAMILIES
from frisket.media.frames import write_image
from frisket.pocket.portraits import draw_person, sample_person, sample_view
from frisket.recipes.train import train
from frisket.runs.image_adapters.references import prepare_references
from frisket.runs.image_adapters.results import write_command
from frisket.runs.memory.estimate import predict
from frisket.runs.prepare import prepare
from frisket.runs.refusals import stop_if_refused

SIDE, VIEWS = 96, 4
POCKET: dict[str, Any] = {"family": "pocket", "variant": "image", "source": ""}
POCKET_DIT = {**POCKET, "variant": "dit"}
KINDS = ("instantid", "uniid-text", "uniid-adapter")


def write_network(path: Path) -> Path:
    """A narrow iResNet of random weights, its last stage as wide as its embedding."""
    torch.manual_seed(0)
    network = IResNet(IResNetShape((1, 1, 1, 1), (4, 4, 8, 16), embedding=16, cells=49))
    weights = {key: value for key, value in network.state_dict().items() if value.ndim}
    weights["fc.weight"] = weights["fc.weight"] * 1000
    path.mkdir(parents=True)
    save_file(weights, path / "backbone.safetensors")
    return path


def write_model(folder: Path) -> None:
    """A tiny SDXL whose two texts have room for words of heads of 64 channels."""
    family = FAMILIES.load("stable_diffusion")
    parts: Any = family.tiny("sdxl")
    torch.manual_seed(0)
    parts.text.text_encoder = tiny.clip_text(64)
    parts.text.text_encoder_2 = tiny.clip_text(64, projection=16)
    config = {**parts.denoiser.config, "cross_attention_dim": 128}
    parts.denoiser = UNet2DConditionModel.from_config(config)
    family.save(parts, folder)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One drawn person in four views with key points beside them, a network and a tiny UNet."""
    folder = tmp_path_factory.mktemp("stages")
    rng = np.random.RandomState(3)
    person = sample_person(rng)
    for name in ("clips", "masks"):
        (folder / name).mkdir()
    for number in range(VIEWS):
        portrait = draw_person(person, sample_view(rng), SIDE)
        face = (portrait.planes["face"] * 255).round().astype(np.uint8)[..., None].repeat(3, 2)
        write_image(folder / "clips" / f"{number}.png", torch.from_numpy(portrait.picture.copy()))
        write_image(folder / "masks" / f"{number}.png", torch.from_numpy(face))
        entry = {"size": [SIDE, SIDE], "faces": [{"points": portrait.keypoints.tolist()}]}
        (folder / "clips" / f"{number}.keypoints.json").write_text(json.dumps(entry))
    write_model(folder / "sdxl")
    write_network(folder / "network")
    return folder


def config_of_stage(world: Path, output: Path, kind: str, **sections: Any) -> Config:
    table = {
        "encoder": None,
        "kind": kind,
        "embedder": "iresnet",
        "embedder_source": world / "network",
        "detector": "drawn",
        **sections.pop("image_adapter", {}),
    }
    clips = {"clips": world / "clips", "masks": world / "masks", "caption": "a person"}
    base: dict[str, Any] = {
        "model": {"family": "stable_diffusion", "source": str(world / "sdxl")},
        "data": [{**clips, "resolution": 64}],
        "regions": {"face": 1.0},
        "image_adapter": table,
        "validation": {"holdout": 1},
        "run": {"steps": 2},
    }
    for name, section in sections.items():
        base[name] = base.get(name, {}) | section if isinstance(section, dict) else section
    return config_of(world, output, base["model"].pop("variant", "sdxl"), **base)


def look(config: Config) -> None:
    check(config)
    stop_if_refused(config)


def write_commands(config: Config) -> list[str]:
    """The command that `frisket generate CONFIG` names, for a picture of the data."""
    file = config.run.output / TRAINED
    stop = CliRunner().invoke(app, ["generate", str(file)])
    assert stop.exit_code
    words = write_command(config, str(file))
    assert "".join(words.split()) in "".join(stop.output.replace("\u2502", "").split())
    picture = config.data[0].clips / "0.png"
    return shlex.split(words.replace("PICTURE", str(picture)))[1:]


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
    sampled = CliRunner().invoke(
        app,
        [*write_commands(config), "--height", "64", "--width", "64", "--steps", "2", "--compare"],
    )
    assert sampled.exit_code == 0, sampled.output
    base_file, adapted_file = sorted((tmp_path / "run" / "samples").rglob("*0*.png"))[:2]
    assert base_file.read_bytes() != adapted_file.read_bytes()


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
    assert predict(config, prepare=False).adapter > 0
