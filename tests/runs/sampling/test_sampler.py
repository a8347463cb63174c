"""Generating with models that are large in life: experts, first frames, memory switches."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from frisket.adapters import lora
from frisket.config.tree import Config
from frisket.families.base import Source
from frisket.families.models.wan.family import FAMILY as WAN
from frisket.recipes.generate import generate
from frisket.runs.sampling.sampler import files_of, load_sampler, plan_of

VARIANT = "2.2-i2v-a14b"
FAST: dict[str, Any] = {"steps": 4, "height": 32, "width": 48, "frames": 5}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny two-expert image-to-video model, a LoRA of both experts and a picture."""
    folder = tmp_path_factory.mktemp("models")
    WAN.save(WAN.tiny(VARIANT), folder / VARIANT)
    denoiser = WAN.tiny(VARIANT).denoiser
    assert denoiser is not None
    lora.attach(denoiser, lora.LoraSpec(rank=2, targets=("to_q", "to_v", "ffn.net.2")), seed=0)
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(1)) / 4)
    written = lora.save(denoiser, folder / "lora.safetensors", {}, names=WAN.names, form="comfyui")
    assert [path.name for path in written] == ["lora-high.safetensors", "lora-low.safetensors"]
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "first.png")
    return folder


def config_of(models: Path, **memory: Any) -> Config:
    model = {"family": "wan", "variant": VARIANT, "source": str(models / VARIANT), "device": "cpu"}
    return Config.model_validate({"model": model, "memory": memory})


def frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


def test_two_experts_take_their_pair_of_loras_and_a_first_frame(
    models: Path, tmp_path: Path
) -> None:
    made = generate(
        config_of(models),
        ["a fox turns"],
        tmp_path,
        lora=[(models / "lora.safetensors", 1.0)],
        without=True,
        images=[models / "first.png"],
        **FAST,
    )
    base, tuned = (frames(path) for path in made.pictures)
    assert base.shape == tuned.shape == (5, 32, 48, 3)
    assert np.abs(base.astype(int) - tuned).max() > 20
    assert made.grid.name == "grid.mp4"
    said = made.record.read_text()
    assert said.count('"sha256"') == 2 + 2  # both LoRA files, the picture for each clip


def test_a_lora_of_every_expert_is_used(models: Path) -> None:
    assert [path.name for path in files_of(models / "lora.safetensors")] == [
        "lora-high.safetensors",
        "lora-low.safetensors",
    ]
    source = Source(VARIANT, str(models / VARIANT))
    parts = load_sampler(WAN, source, lora=[(models / "lora.safetensors", 0.5)])
    assert parts.denoiser is not None
    names = {name.split(".")[1] for name, _ in parts.denoiser.named_parameters() if "lora_" in name}
    assert names == {"high", "low"}
    assert parts.text is None


@pytest.mark.parametrize(
    "memory", [{"swap_blocks": 1}, {"checkpointing": True}, {"compile": True}, {"tile_vae": True}]
)
def test_memory_switches_change_no_sample(
    models: Path, tmp_path: Path, memory: dict[str, Any]
) -> None:
    def made(name: str, **switches: Any) -> np.ndarray:
        done = generate(
            config_of(models, **switches),
            ["a fox"],
            tmp_path / name,
            lora=[(models / "lora.safetensors", 1.0)],
            images=[models / "first.png"],
            **{**FAST, "steps": 2, "frames": 1},
        )
        return np.asarray(Image.open(done.pictures[0]))

    plain, switched = made("plain"), made("switched", **memory)
    assert np.array_equal(plain, switched)
    assert plan_of(config_of(models, **memory)).compile is False
