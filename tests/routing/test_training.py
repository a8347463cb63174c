"""Token routing through `train`: what is carried, what is told of it, what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.recipes.test_train_families import config_of, moved

from frisket.config.tree import Config
from frisket.media.frames import write_image, write_video
from frisket.recipes.train import train
from frisket.runs import banner
from frisket.runs.prepare import prepare
from frisket.runs.refusals import refusals

SIDE = 128  # pixels: 8 x 8 tokens of the tiny models
WINDOW = {"background": 0.25, "start": 0, "end": 2, "multiple": 1, "max_kept": 1.0}
ALWAYS = {**WINDOW, "full_step_probability": 0.0, "full_from": 1.0}


def draw_clip(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of 5 F H W 3, and a mask over a part of it."""
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (5, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    mask = torch.zeros_like(pixels)
    mask[:, 16:80, 32:64] = 255
    return pixels, mask


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three stills and two clips of five frames, each with a mask."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("stills", "still-masks", "clips", "clip-masks"):
        (folder / name).mkdir()
    for number in range(3):
        pixels, masks = draw_clip(number)
        write_image(folder / "stills" / f"{number}.png", pixels[0])
        write_image(folder / "still-masks" / f"{number}.png", masks[0])
        if number:
            write_video(folder / "clips" / f"{number}.mkv", pixels, 16, lossless=True)
            write_video(folder / "clip-masks" / f"{number}.mkv", masks, 16, lossless=True)
    return folder


def read_kept(output: Path) -> list[float]:
    lines = (output / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["kept"] for line in lines]


def configure(world: Path, output: Path, family: str, variant: str, **sections: object) -> Config:
    sections = {"data": {"resolution": SIDE}, **sections}
    return config_of(world, output, family, variant, **sections)


def refuse(config: Config) -> str:
    return "\n".join(str(error) for error in refusals(config))


@pytest.mark.parametrize(
    ("family", "variant"),
    [
        ("wan", "2.1-t2v-1.3b"),
        ("flux", "dev"),
        pytest.param("wan", "2.2-ti2v-5b", marks=pytest.mark.slow),
        pytest.param("sd3", "3.5-medium", marks=pytest.mark.slow),
    ],
)
def test_a_routed_run_trains_and_says_what_it_carried(world, tmp_path, family, variant):
    config = configure(world, tmp_path / "run", family, variant, routing=ALWAYS)
    assert refuse(config) == ""
    result = train(config)
    kept = read_kept(tmp_path / "run")
    assert len(kept) == 4
    assert all(0 < share < 1 for share in kept)
    assert all(moved(path) for path in result.loras)


def test_a_run_that_goes_on_carries_what_it_would_have(world, tmp_path):
    options = {"routing": {**WINDOW, "full_step_probability": 0.5, "full_from": 1.0}}
    unbroken = configure(world, tmp_path / "whole", "wan", "2.1-t2v-1.3b", **options)
    train(unbroken)
    for steps in (2, 4):
        run = {**unbroken.run.model_dump(), "output": tmp_path / "parts", "steps": steps}
        train(unbroken.model_copy(update={"run": type(unbroken.run)(**run)}))
    assert read_kept(tmp_path / "parts") == read_kept(tmp_path / "whole")
    assert len(set(read_kept(tmp_path / "whole"))) > 1  # some are whole, some are not


@pytest.mark.slow
def test_both_experts_and_an_adapter_that_acts_by_level_and_place_train_routed(world, tmp_path):
    def learn(name: str, **memory: object) -> dict[str, torch.Tensor]:
        acting = {"rank": 4, "rank_schedule": "t-lora", "rank_min": 2, "confine": 1}
        settings = configure(
            world,
            tmp_path / name,
            "wan",
            "2.2-t2v-a14b",
            routing=ALWAYS,
            lora=acting,
            model={"experts": "both"},
            memory=memory,
        )
        result = train(settings)
        assert all(0 < share < 1 for share in read_kept(tmp_path / name))
        assert all(moved(path) for path in result.loras)
        return {
            f"{path.name} {key}": value
            for path in result.loras
            for key, value in load_file(path).items()
        }

    plain, recomputed = learn("plain"), learn("recomputed", checkpointing=True)
    assert len({key.split()[0] for key in plain}) == 2
    for key, value in plain.items():
        torch.testing.assert_close(recomputed[key], value, rtol=1e-3, atol=1e-4, msg=key)


@pytest.mark.slow
def test_validation_of_a_routed_run_is_that_of_the_whole_model(world, tmp_path):
    """At a rate that moves nothing, it is the validation of a run that is not routed."""

    def validate(name: str, routing: dict[str, object]) -> list[dict[str, dict[str, float]]]:
        settings = configure(
            world,
            tmp_path / name,
            "wan",
            "2.1-t2v-1.3b",
            routing=routing,
            optimizer={"lr": 1e-12},
            validation={"holdout": 1, "every": 2},
        )
        train(settings)
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        return [line["validation"] for line in lines if "validation" in line]

    scores = validate("routed", ALWAYS)
    assert len(scores) == 2
    for routed, whole in zip(scores, validate("whole", {}), strict=True):
        assert routed["tuned"] == pytest.approx(whole["tuned"], rel=1e-6, abs=1e-9)


def test_the_last_steps_are_whole(world, tmp_path):
    routing = {**ALWAYS, "full_from": 0.5}
    train(configure(world, tmp_path / "run", "wan", "2.1-t2v-1.3b", routing=routing))
    kept = read_kept(tmp_path / "run")
    assert kept[2:] == [1.0, 1.0]
    assert max(kept[:2]) < 1


def test_what_cannot_be_routed_is_refused_by_name(world, tmp_path):
    def ask(family: str, variant: str, **sections: object) -> str:
        return refuse(configure(world, tmp_path / "no", family, variant, **sections))

    outside = ask("wan", "2.1-t2v-1.3b", routing={"background": 0.25})
    assert "routing.start and routing.end" in outside
    assert "of 2" in outside
    unet = ask("stable_diffusion", "sd15", routing=ALWAYS)
    assert "no tokens that could pass by" in unet
    assert "wan" in unet
    nothing = ask("wan", "2.1-t2v-1.3b", routing={**ALWAYS, "background": 0.0})
    assert "routing.background = 0 and losses.prior" in nothing
    attention = ask(
        "wan",
        "2.1-t2v-1.3b",
        routing={**ALWAYS, "end": 1},
        losses={"attention": 0.01},
        regions={"subject": {"weight": 1.0, "phrase": "sks"}},
    )
    assert "losses.attention reads blocks.0" in attention
    assert "layers outside (blocks.1" in attention


def test_the_banner_says_what_passes_by(world, tmp_path):
    def describe(**sections: object) -> str:
        settings = configure(
            world, tmp_path / "run", "wan", "2.1-t2v-1.3b", routing=ALWAYS, **sections
        )
        return dict(banner.rows(settings, prepare(settings)))["token routing"]

    assert "carry no loss" in describe()
    everywhere = describe(regions={"subject": 1.0, "background": 0.1})
    assert everywhere.startswith(
        "off: nothing could pass by; 2 of 2 clips with weight in over 100%"
    )
    folder = tmp_path / "whole-masks"
    folder.mkdir()
    for number in (1, 2):
        pixels = draw_clip(number)[0]
        write_video(folder / f"{number}.mkv", torch.full_like(pixels, 255), 16, lossless=True)
    covering = describe(data={"resolution": SIDE, "masks": folder})
    assert covering.startswith("off: nothing could pass by; 2 of 2 clips with weight")
