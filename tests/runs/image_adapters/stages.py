"""A tiny SDXL and a drawn person, for runs of the kinds that read faces; and their commands."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from tests.runs.image_adapters.scene import config_of, write_encoder
from typer.testing import CliRunner

from frisket.cli.app import app
from frisket.config.run_config import TRAINED
from frisket.config.tree import Config
from frisket.faces.iresnet import IResNet, IResNetShape
from frisket.families import tiny
from frisket.families.base import FAMILIES
from frisket.media.frames import write_image
from frisket.pocket.portraits import draw_person, sample_person, sample_view
from frisket.runs.image_adapters.results import write_command

SIDE, VIEWS = 96, 4


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


def write_stages(folder: Path) -> Path:
    """One drawn person in four views with key points beside them, networks and a tiny UNet."""
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
    write_encoder(folder / "encoder")
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


def ask_command(config: Config) -> str:
    """The command that `frisket generate CONFIG` names after a run."""
    file = config.run.output / TRAINED
    stop = CliRunner().invoke(app, ["generate", str(file)])
    assert stop.exit_code
    words = write_command(config, str(file))
    assert "".join(words.split()) in "".join(stop.output.replace("\u2502", "").split())
    return words


def sample_pictures(config: Config, command: str) -> list[bytes]:
    """What a command writes for a picture of the data, in two steps, the base first."""
    words = shlex.split(command.replace("PICTURE", str(config.data[0].clips / "0.png")))
    assert words[0] == "frisket"
    samples = config.run.output / "samples"
    earlier = set(samples.rglob("*.png"))
    size = ["--height", "64", "--width", "64", "--steps", "2", "--compare"]
    sampled = CliRunner().invoke(app, [*words[1:], *size])
    assert sampled.exit_code == 0, sampled.output
    files = sorted(path for path in set(samples.rglob("*.png")) - earlier if path.stem != "grid")
    assert len(files) == 2
    return [path.read_bytes() for path in files]
