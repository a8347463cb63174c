"""What is refused of a ControlNet before any work: by name, with the value and the fix."""

from pathlib import Path
from typing import Any

import pytest
from tests.runs.control.scene import config_of, write_model, write_world

from frisket.config.calls import ControlOptions
from frisket.config.load import ConfigError, check
from frisket.families.base import FAMILIES, Source
from frisket.inference.sample_specs import build_spec
from frisket.runs.control.asking import plan_control
from frisket.runs.control.setup import check_control, warn_free_cells


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_world(tmp_path_factory.mktemp("world"))
    write_model(folder, "stable_diffusion", "sd15")
    return folder


@pytest.mark.parametrize(
    ("train", "sections", "words"),
    [
        ("lora", {"data": []}, None),
        ("lora", {"control": {"layers": 2}}, "`control.layers` is of a ControlNet that is trained"),
        ("lora", {"memory": {"compile": True}}, "`memory.compile` was not shown to go"),
        ("lora", {"routing": {"background": 0.5}}, "`routing.background` = 0.5: a ControlNet"),
        ("controlnet", {"control": {"dropout": 0.2}}, "`control.dropout` is for a frozen"),
        ("controlnet", {"control": {"scale": (0.5, 1.0)}}, "`control.scale` is for a frozen"),
        ("controlnet", {"lora": {"rank": 8}}, "`lora.rank` is of a LoRA"),
        ("controlnet", {"losses": {"attention": 0.1}}, "`losses.attention` steers the base's own"),
        ("controlnet", {"memory": {"quantise": "nf4"}}, "a ControlNet begins with copies"),
        ("all", {"control": {"source": "net"}}, "`control.source` is for a LoRA, and model.train"),
    ],
)
def test_what_does_not_go_with_it(
    world: Path, tmp_path: Path, train: str, sections: dict[str, Any], words: str | None
) -> None:
    config = config_of(world, tmp_path, train, **sections)
    if words is None:
        check(config)
        return
    with pytest.raises(ConfigError) as refusal:
        check(config)
    assert words in str(refusal.value)


def test_controls_need_a_reader_and_a_net_needs_controls(world: Path, tmp_path: Path) -> None:
    config = config_of(world, tmp_path)
    bare = tuple(data.model_copy(update={"control": None}) for data in config.data)
    with pytest.raises(ConfigError, match="has no control pictures, and a ControlNet is shown one"):
        check(config.model_copy(update={"data": bare}))
    options = config.control
    lone = config.model_copy(update={"control": type(options)()})
    with pytest.raises(ConfigError, match=r"are read by nothing: set control.source"):
        check(lone)
    unread = lone.model_copy(update={"data": bare, "control": type(options)(dropout=0.5)})
    with pytest.raises(
        ConfigError, match=r"`control.dropout` is of a ControlNet, and there is none"
    ):
        check(unread)


def test_scales_are_in_order(world: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\[least, most\], got \[1, 0.5\]"):
        config_of(world, tmp_path, control={"scale": (1.0, 0.5)})


@pytest.mark.parametrize(
    ("model", "source", "words"),
    [
        ({"family": "maskdit", "variant": ""}, "pocket-image-net", "these families have them:"),
        ({"variant": "dit"}, "pocket-image-net", "dit takes no ControlNet: take variant image"),
        ({}, "nowhere", "is no folder; a ControlNet is a folder"),
        ({}, "pocket-image", "diffusion_pytorch_model.safetensors is missing"),
        ({}, "stable_diffusion-sd15-net", "It is no ControlNet of pocket image"),
    ],
)
def test_a_net_that_this_model_cannot_take(
    world: Path, tmp_path: Path, model: dict[str, str], source: str, words: str
) -> None:
    config = config_of(world, tmp_path, control={"source": world / source}, model=model)
    with pytest.raises(ConfigError) as refusal:
        check_control(config)
    assert words in str(refusal.value)


def test_a_net_without_its_weights_is_named(world: Path, tmp_path: Path) -> None:
    net = tmp_path / "net"
    net.mkdir()
    (net / "config.json").write_bytes((world / "pocket-image-net" / "config.json").read_bytes())
    with pytest.raises(ConfigError, match=r"holds no weights: diffusion_pytorch_model.safetensors"):
        check_control(config_of(world, tmp_path, control={"source": net}))


def test_a_background_without_weight_is_told(world: Path, tmp_path: Path) -> None:
    free = config_of(world, tmp_path, "controlnet")
    assert "drifts freely: set curve.floor" in warn_free_cells(free)[0]
    held: list[dict[str, Any]] = [
        {"curve": {"floor": 0.1}},
        {"regions": {"background": 0.1, "subject": 1.0}},
        {"losses": {"prior": 0.5}},
    ]
    for sections in held:
        assert not warn_free_cells(config_of(world, tmp_path, "controlnet", **sections))
    assert not warn_free_cells(config_of(world, tmp_path))


@pytest.mark.parametrize(
    ("options", "sections", "words"),
    [
        ({"net": "net"}, {}, "--control-net net says nothing without a picture"),
        ({"scale": 0.5}, {}, "--control-scale 0.5 says nothing"),
        ({"picture": "absent.png"}, {}, "there is no control picture absent.png"),
        ({"picture": "wide.png"}, {}, "is 64 x 32 and the samples are 32 x 32"),
        ({"picture": "clip.mkv"}, {}, "has 3 frames, and 1 are sampled"),
        ({"picture": "0.png", "mask": "absent.png"}, {}, "there is no mask"),
        ({"picture": "0.png", "net": "absent"}, {}, "--control-net: "),
        ({"picture": "0.png"}, {"control": {"source": None}}, "which ControlNet follows it"),
    ],
)
def test_what_cannot_be_followed(
    world: Path, tmp_path: Path, options: dict[str, Any], sections: dict[str, Any], words: str
) -> None:
    import torch

    from frisket.media.frames import write_image, write_video

    (tmp_path / "0.png").write_bytes((world / "data" / "control" / "0.png").read_bytes())
    write_image(tmp_path / "wide.png", torch.zeros(32, 64, 3, dtype=torch.uint8))
    frames = torch.zeros(3, 32, 32, 3, dtype=torch.uint8)
    write_video(tmp_path / "clip.mkv", frames, 8, lossless=True)
    named = {
        key: tmp_path / value if key in ("picture", "mask") else value
        for key, value in options.items()
    }
    config = config_of(world, tmp_path / "run", **sections)
    family = FAMILIES.load("pocket")
    spec = build_spec(family.variants["image"], "sks", 0)
    with pytest.raises(ConfigError) as refusal:
        plan_control(ControlOptions(**named), config, family, Source("image"), [spec])
    assert words in str(refusal.value).replace(f"{tmp_path}/", "")


def test_a_net_that_is_not_trained_yet(world: Path, tmp_path: Path) -> None:
    config = config_of(world, tmp_path, "controlnet")
    family = FAMILIES.load("pocket")
    spec = build_spec(family.variants["image"], "sks", 0)
    options = ControlOptions(picture=world / "data" / "control" / "0.png")
    with pytest.raises(ConfigError, match="controlnet is not there yet: train first"):
        plan_control(options, config, family, Source("image"), [spec])
