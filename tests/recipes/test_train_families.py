"""`train` on other families' tiny models, from folders on disk to files that load back."""

import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from frisket.adapters import lora
from frisket.config.load import ConfigError, check
from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Source, layer_names
from frisket.media.frames import write_image, write_video
from frisket.pocket.world import draw, random_creature
from frisket.recipes.train import train


def picture(number: int, size: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """A creature and its cover, uint8 H W 3 both."""
    painted, planes = draw(random_creature(np.random.RandomState(number)), size)
    cover = (np.clip(sum(planes.values()), 0, 1) * 255).round().astype(np.uint8)
    return torch.from_numpy(painted.copy()), torch.from_numpy(cover)[..., None].repeat(1, 1, 3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stills with masks and references, and two clips of five frames with mask videos."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("stills", "still-masks", "seen", "clips", "clip-masks"):
        (folder / name).mkdir()
    for number in range(3):
        painted, cover = picture(number)
        write_image(folder / "stills" / f"{number}.png", painted)
        write_image(folder / "still-masks" / f"{number}.png", cover)
        write_image(folder / "seen" / f"{number}.png", 255 - painted)
    for number in range(2):
        frames = [picture(10 * number + index, 32) for index in range(5)]
        pixels, masks = (torch.stack(each) for each in zip(*frames, strict=True))
        write_video(folder / "clips" / f"{number}.mkv", pixels, 16, lossless=True)
        write_video(folder / "clip-masks" / f"{number}.mkv", masks, 16, lossless=True)
    return folder


def config_of(world: Path, output: Path, family: str, variant: str, **sections: object) -> Config:
    """A run of four steps on a tiny model that was saved to disk."""
    shelf = FAMILIES.load(family)
    model = world / f"{family}-{shelf.variants[variant].like or variant}"
    if not model.exists():
        shelf.save(shelf.tiny(variant), model)
    video = shelf.variants[variant].video
    data = {
        "clips": world / ("clips" if video else "stills"),
        "masks": world / ("clip-masks" if video else "still-masks"),
        "caption": "sks",
        "resolution": 32 if video else 64,
        "frames": 5 if video else 1,
        **dict(sections.pop("data", {})),  # type: ignore[call-overload]
    }
    tree: dict[str, object] = {
        "data": [data],
        "lora": {"rank": 2},
        "optimizer": {"lr": 1e-2},
        "losses": {"denoise": 1.0, "prior": 0.3},
        "run": {"output": output, "cache": world / "cache", "steps": 4, "save_every": 0},
    }
    model_table = {"family": family, "variant": variant, "source": str(model), "device": "cpu"}
    tree["model"] = model_table | dict(sections.pop("model", {}))  # type: ignore[call-overload]
    return Config.model_validate(tree | sections)


def moved(path: Path) -> bool:
    """Whether training moved the adapter off its start (B is zeros there)."""
    state = load_file(path)
    ends = ("lora_B.weight", "lora_up.weight")
    return all(bool(value.any()) for key, value in state.items() if key.endswith(ends))


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as opened:
        said: dict[str, str] = opened.metadata()
    return said


@pytest.mark.parametrize("asked", ["both", "high", "low"])
def test_experts_get_their_own_range_and_their_own_file(world, tmp_path, asked):
    config = config_of(
        world,
        tmp_path,
        "wan",
        "2.2-t2v-a14b",
        model={"experts": asked},
        validation={"holdout": 1},
        run={"output": tmp_path, "cache": world / "cache", "steps": 8, "save_every": 0},
        optimizer={"lr": 1e-2, "accumulate": 2},
    )
    outcome = train(config)
    names = ("high", "low") if asked == "both" else (asked,)
    assert [path.name for path in outcome.loras] == [f"lora-{name}.safetensors" for name in names]
    for name, path in zip(names, outcome.loras, strict=True):
        assert moved(path)
        said = metadata(path)
        assert said["frisket.expert"] == name
        assert (
            json.loads(said["frisket.expert_range"])
            == {
                "high": [0.875, 1.0],
                "low": [0.0, 0.875],
            }[name]
        )
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    levels = [line["t"] for line in lines if "t" in line]
    if asked != "both":
        assert all((level >= 0.875) == (asked == "high") for level in levels)
    shelf = FAMILIES.load("wan")
    denoiser = shelf.tiny("2.2-t2v-a14b").denoiser
    lora.load(denoiser, tmp_path / "lora.safetensors", names=layer_names(shelf, "2.2-t2v-a14b"))
    assert lora.get_spec(denoiser) is not None


@pytest.mark.parametrize("role", ["loss", "condition", "both"])
def test_a_first_frame_model_trains_with_its_mask_in_every_role(world, tmp_path, role):
    config = config_of(world, tmp_path, "wan", "2.2-i2v-a14b", data={"mask_role": role})
    assert all(map(moved, train(config).loras))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    weights = [line["weight"] for line in lines if "weight" in line]
    assert all((weight == 1) == (role == "condition") for weight in weights)


def test_a_clean_first_frame_carries_no_weight(world, tmp_path):
    config = config_of(
        world, tmp_path, "wan", "2.2-ti2v-5b-i2v", data={"masks": "none", "resolution": 64}
    )
    assert moved(train(config).lora)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {line["weight"] for line in lines if "weight" in line} == {0.5}  # of two latent frames


def test_an_edit_model_trains_on_its_references(world, tmp_path):
    config = config_of(world, tmp_path, "qwen_image", "edit", data={"references": world / "seen"})
    assert moved(train(config).lora)


def test_an_epsilon_model_trains_with_min_snr(world, tmp_path):
    config = config_of(
        world,
        tmp_path,
        "stable_diffusion",
        "sd15",
        timesteps={"min_snr": 5.0},
        data={"resolution": 128},  # of 64 pixels one cell is left in the middle: no attention
    )
    outcome = train(config)
    assert moved(outcome.lora)
    assert all(key.startswith("lora_unet_") for key in load_file(outcome.lora))
    assert metadata(outcome.lora)["modelspec.architecture"] == "stable-diffusion-v1/lora"


def test_what_fits_a_card_trains_alike(world, tmp_path):
    states = []
    for name, memory in {
        "plain": {},
        "fit": {"checkpointing": True, "swap_blocks": 2, "tile_vae": True},  # one tile is enough
    }.items():
        config = config_of(world, tmp_path / name, "wan", "2.1-t2v-1.3b", memory=memory)
        states.append(load_file(train(config).lora))
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_run_goes_on_from_a_file_in_any_format(world, tmp_path):
    first = train(config_of(world, tmp_path / "a", "flux", "dev", lora={"rank": 2}))
    for form in ("comfyui", "diffusers", "kohya"):
        config = config_of(
            world,
            tmp_path / form,
            "flux",
            "dev",
            lora={"rank": 2, "source": first.lora, "format": form},
        )
        first = train(config)
    assert moved(first.lora)


def test_text_encoder_vae_and_denoiser_are_never_in_memory_together(world, tmp_path, monkeypatch):
    shelf, alive = FAMILIES.load("wan"), {}

    def watched(name: str, others: tuple[str, ...]):
        load = getattr(shelf, name)

        def loading(source: Source):
            gc.collect()
            for other in others:
                assert alive.get(other, lambda: None)() is None, f"{other} is there at {name}"
            made = load(source)
            alive[name] = weakref.ref(made)
            return made

        return loading

    # Previews keep the VAE, on the CPU.
    for name, others in {
        "load_text": ("load_vae", "load_denoiser"),
        "load_vae": ("load_text", "load_denoiser"),
        "load_denoiser": ("load_text",),
    }.items():
        monkeypatch.setattr(shelf, name, watched(name, others))
    preview = {"every": 2, "prompts": ["sks"], "steps": 2, "width": 32, "height": 32, "frames": 5}
    config = config_of(
        world,
        tmp_path,
        "wan",
        "2.1-t2v-1.3b",
        preview=preview,
        run={"output": tmp_path, "cache": tmp_path / "cache", "steps": 2, "save_every": 0},
    )
    train(config)
    assert set(alive) == {"load_text", "load_vae", "load_denoiser"}
    assert (tmp_path / "previews" / "step-000002.mp4").exists()


@pytest.mark.parametrize(
    ("family", "variant", "sections", "said"),
    [
        ("flux", "dev", {"model": {"experts": "high"}}, "has no high expert"),
        ("flux", "dev", {"timesteps": {"min_snr": 5.0}}, "use timesteps.weighting"),
        ("flux", "dev", {"data": {"mask_role": "both"}}, "no mask channels of its own"),
        ("flux", "dev", {"data": {"references": "seen"}}, "looks at no reference pictures"),
        ("qwen_image", "edit", {}, "give `references`"),
        ("pocket", "image", {"memory": {"quantise": "nf4"}}, "is not quantised"),
        ("stable_diffusion", "sdxl", {"timesteps": {"weighting": "cosmap"}}, "min_snr"),
    ],
)
def test_what_a_variant_cannot_do_is_said_before_any_work(
    world, tmp_path, family, variant, sections, said
):
    config = config_of(world, tmp_path, family, variant, **sections)
    with pytest.raises(ConfigError, match=said):
        check(config)
