"""Previews: drawn without a text encoder, and training goes on as though they had not been."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from transformers import UMT5EncoderModel

from frisket.adapters import lora
from frisket.config.load import ConfigError
from frisket.config.tree import Config, Preview
from frisket.families.base import FAMILIES, Parts, Source
from frisket.families.experts import Experts
from frisket.recipes.train import train
from frisket.runs import quickstart_data
from frisket.runs.prepare import source_of
from frisket.runs.sampling.previews import Previews, prepare_previews
from frisket.runs.sampling.samples import write_grid

POCKET = FAMILIES.load("pocket")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random pocket model and a little data set, on disk."""
    folder = tmp_path_factory.mktemp("base")
    POCKET.save(POCKET.tiny("image"), folder / "model")
    quickstart_data.make_clips(folder / "data", seed=0)
    return folder


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_training_with_and_without_previews_gives_the_same_lora(base: Path, tmp_path: Path) -> None:
    def trained(name: str, **preview: Any) -> dict[str, torch.Tensor]:
        tree = {
            "model": {"source": str(base / "model"), "device": "cpu"},
            "data": [{"clips": base / "data" / "clips", "masks": base / "data" / "masks"}],
            "losses": {"denoise": 1.0, "prior": 0.3},
            "lora": {"rank": 2, "dropout": 0.3},
            "optimizer": {"lr": 1e-3, "ema": 0.9},
            "preview": {"prompts": ("a ring", "a cross"), "steps": 2, **preview},
            "memory": {"checkpointing": True},
            "run": {
                "output": tmp_path / name,
                "cache": base / "cache",
                "steps": 4,
                "batch": 2,
            },
        }
        return load_file(train(Config.model_validate(tree)).lora)

    plain = trained("plain")
    looked = trained("looked", every=1)
    assert sorted(path.name for path in (tmp_path / "looked" / "previews").iterdir()) == [
        f"step-{step:06d}.png" for step in range(1, 5)
    ]
    assert not (tmp_path / "plain" / "previews").exists()
    assert plain.keys() == looked.keys()
    assert all(torch.equal(plain[name], looked[name]) for name in plain)


def test_a_preview_is_a_grid_of_prompts_by_seeds(tmp_path: Path) -> None:
    preview = Preview(prompts=("a ring", "a cross"), seeds=(0, 1, 2), steps=1)
    sheet = write_grid(POCKET, POCKET.tiny("image"), preview, tmp_path / "new" / "step-000010")
    assert sheet.name == "step-000010.png"
    width, height = size(sheet)
    assert width > height > 2 * 160


def config_of(
    family: str, variant: str, source: Path, output: Path, experts: str = "both", **preview: Any
) -> Config:
    shown = {"every": 1, "prompts": ("a fox",), "steps": 1, "height": 32, "width": 32, "frames": 1}
    tree = {
        "model": {
            "family": family,
            "variant": variant,
            "source": str(source),
            "device": "cpu",
            "experts": experts,
        },
        "preview": shown | preview,
        "run": {"output": output},
    }
    return Config.model_validate(tree)


def ready(config: Config) -> Previews:
    family = FAMILIES.load(config.model.family)
    made = prepare_previews(config, family, source_of(config, family))
    assert made is not None
    return made


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny Wan models on disk, a folder a variant."""
    folder = tmp_path_factory.mktemp("wan")
    family = FAMILIES.load("wan")
    for variant in ("2.1-t2v-1.3b", "2.2-t2v-a14b"):
        family.save(family.tiny(variant), folder / variant)
    return folder


def encoders() -> int:
    gc.collect()
    return sum(type(each) is UMT5EncoderModel for each in gc.get_objects())


def test_the_text_encoder_is_gone_before_the_denoiser_comes(wan: Path, tmp_path: Path) -> None:
    before = encoders()
    variant = "2.1-t2v-1.3b"
    look = ready(config_of("wan", variant, wan / variant, tmp_path))
    assert encoders() == before
    assert {text for text, _ in look.embeddings} == {"a fox", ""}
    denoiser = FAMILIES.load("wan").load_denoiser(Source(variant, str(wan / variant)))
    assert size(look(7, denoiser))[0] >= 160
    assert (tmp_path / "previews" / "step-000007.png").is_file()


@pytest.fixture
def high(wan: Path) -> nn.Module:
    """One of two experts, with an adapter on it, as a run that trains it alone has it."""
    family, source = FAMILIES.load("wan"), wan / "2.2-t2v-a14b"
    made = family.load_denoiser(Source("2.2-t2v-a14b", str(source), experts=("high",)))
    lora.attach(made, lora.LoraSpec(rank=2, dropout=0.3, targets=("to_q",)), seed=0)
    return made.train()


def test_a_run_of_one_expert_is_looked_at_with_the_other_beside_it(
    wan: Path, tmp_path: Path, high: nn.Module
) -> None:
    source = wan / "2.2-t2v-a14b"
    look = ready(config_of("wan", "2.2-t2v-a14b", source, tmp_path, experts="high", steps=4))
    family = FAMILIES.load("wan")
    state = {name: value.clone() for name, value in high.state_dict().items()}
    with torch.no_grad():
        drawn = look(1, high).read_bytes()
        assert drawn == look(2, high).read_bytes()
        parts = Parts(
            "2.2-t2v-a14b",
            look.vae,
            None,
            family.load_denoiser(Source("2.2-t2v-a14b", str(source))),
        )
        whole = write_grid(family, parts, look.preview, tmp_path / "whole", look.embeddings)
    assert whole.read_bytes() == drawn  # the adapter is fresh, so it is the base
    assert all(module.training for module in high.modules())
    assert isinstance(high, Experts)
    assert set(high.experts) == {"high"}
    assert all(torch.equal(value, state[name]) for name, value in high.state_dict().items())


def test_previews_that_cannot_be_drawn_are_refused_before_any_work(
    wan: Path, tmp_path: Path
) -> None:
    variant = "2.1-t2v-1.3b"
    with pytest.raises(ConfigError, match=r"preview: .*multiples of 16\. Change \[preview\], or"):
        ready(config_of("wan", variant, wan / variant, tmp_path, height=40))
    seeing = next(
        name for name, card in FAMILIES.load("wan").variants.items() if card.sees == "first_frame"
    )
    with pytest.raises(ConfigError, match="goes on from a first frame: give one picture"):
        ready(config_of("wan", seeing, wan / variant, tmp_path))
    family = FAMILIES.load("wan")
    off = config_of("wan", variant, wan / variant, tmp_path, every=0)
    assert prepare_previews(off, family, source_of(off, family)) is None
