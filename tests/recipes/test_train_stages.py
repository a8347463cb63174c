"""`kind = "instantid"`, `"uniid-text"` and `"uniid-adapter"`: methods trained from a config."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.runs.image_adapters.scene import config_of

from frisket.adapters.image.branches import read_branch
from frisket.adapters.image.instantid import InstantIdModules
from frisket.config.load import ConfigError, check
from frisket.config.tree import Config
from frisket.faces.iresnet import IResNet, IResNetShape
from frisket.families.models.pocket.family import FAMILY
from frisket.media.frames import write_image
from frisket.pocket.portraits import draw_person, sample_person, sample_view
from frisket.recipes.train import train
from frisket.runs.image_adapters.references import prepare_references
from frisket.runs.memory.estimate import predict
from frisket.runs.prepare import prepare
from frisket.runs.refusals import stop_if_refused

SIDE, VIEWS = 96, 4
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
    FAMILY.save(FAMILY.tiny("image"), folder / "image")
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
    base: dict[str, Any] = {
        "data": [{"clips": world / "clips", "masks": world / "masks", "caption": "a person"}],
        "regions": {"face": 1.0},
        "image_adapter": table,
        "validation": {"holdout": 1},
        "run": {"steps": 2},
    }
    for name, section in sections.items():
        base[name] = base.get(name, {}) | section if isinstance(section, dict) else section
    return config_of(world, output, **base)


def look(config: Config) -> None:
    check(config)
    stop_if_refused(config)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_the_public_layout(world: Path, tmp_path: Path, kind: str) -> None:
    config = config_of_stage(world, tmp_path / "run", kind)
    look(config)
    result = train(config)
    assert result.image_adapter is not None
    if kind == "instantid":
        modules = InstantIdModules.from_folder(tmp_path / "run" / "instantid")
        assert any(bool(value.any()) for value in modules.identity_net.controlnet_mid_block.parameters())
    else:
        file = read_branch(result.image_adapter)
        assert file.kind == kind


def test_key_points_and_faces_follow_the_clip(world: Path, tmp_path: Path) -> None:
    """Mirrored clips have mirrored key points, and a face of their own."""
    data = {"clips": world / "clips", "masks": world / "masks", "caption": "a person", "flip": True}
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
        ("instantid", {"model": {"variant": "dit"}}, "is for UNets"),
        ("instantid", {"image_adapter": {"width": 64}}, "`image_adapter.width` = 64"),
        ("instantid", {"image_adapter": {"source": Path("x.bin")}}, "it is no folder"),
        ("uniid-text", {"image_adapter": {"source": Path("x.bin")}}, "it is no folder"),
        ("uniid-text", {"image_adapter": {"embedder": "tiny"}}, 'set it to "iresnet"'),
        ("instantid", {"mix": {"rate": 0.5}}, "a mix moves faces"),
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
