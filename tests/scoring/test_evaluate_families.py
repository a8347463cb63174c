"""`evaluate` on other families' tiny models: texts, first frames, references, experts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.media.frames import write_image, write_video
from frisket.pocket.world import draw, random_creature
from frisket.recipes.evaluate import Measures, evaluate
from frisket.recipes.train import train
from frisket.scoring.runs import read_run


def picture(number: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A creature and its cover, uint8 H W 3 both."""
    painted, planes = draw(random_creature(np.random.RandomState(number)), size)
    cover = (np.clip(sum(planes.values()), 0, 1) * 255).round().astype(np.uint8)
    return torch.from_numpy(painted.copy()), torch.from_numpy(cover)[..., None].repeat(1, 1, 3)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stills of two sizes and clips of five frames, with masks and references."""
    folder = tmp_path_factory.mktemp("world")
    for size in (64, 128):
        for number in range(4):
            painted, cover = picture(number, size)
            write_image(folder / f"stills-{size}" / f"{number}.png", painted)
            write_image(folder / f"stills-{size}-masks" / f"{number}.png", cover)
            write_image(folder / "seen" / f"{number}.png", 255 - painted)
    for number in range(3):
        frames = [picture(10 * number + index, 32) for index in range(5)]
        pixels, masks = (torch.stack(each) for each in zip(*frames, strict=True))
        for name, each in (("clips-32", pixels), ("clips-32-masks", masks)):
            (folder / name).mkdir(exist_ok=True)
            write_video(folder / name / f"{number}.mkv", each, 16, lossless=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "variant", "data"),
    [
        ("stable_diffusion", "sd15", "stills-128"),
        ("flux", "dev", "stills-64"),
        ("qwen_image", "edit", "stills-64"),
        ("wan", "2.1-t2v-1.3b", "clips-32"),
        ("wan", "2.2-i2v-a14b", "clips-32"),
    ],
)
def test_every_number_is_there(
    world: Path, tmp_path: Path, family: str, variant: str, data: str
) -> None:
    shelf = FAMILIES.load(family)
    card = shelf.variants[variant]
    shelf.save(shelf.tiny(variant), tmp_path / "model")
    size = int(data.split("-")[1])
    table: dict[str, Any] = {
        **{"clips": world / data, "masks": world / f"{data}-masks", "trigger": "sks"},
        **{"resolution": size, "frames": 5 if card.video else 1},
    }
    if card.sees == "pictures":
        table["references"] = world / "seen"
    config = Config.model_validate(
        {
            "model": {
                **{"family": family, "variant": variant, "device": "cpu"},
                "source": str(tmp_path / "model"),
            },
            "data": [table],
            "lora": {"rank": 2},
            "optimizer": {"lr": 1e-2},
            "validation": {"holdout": 2, "t": (0.5, 0.95)},
            "preview": {
                **{"steps": 2, "width": size, "height": size, "frames": table["frames"]},
                "images": [] if card.sees == "nothing" else [world / "seen" / "0.png"],
            },
            "run": {"output": tmp_path / "run", "cache": tmp_path / "cache", "steps": 3},
        }
    )
    train(config)
    measures = Measures(seeds=2, draws=1, unrelated=("a ring", "a wall"))
    evaluate([read_run(tmp_path / "run")], tmp_path / "out", measures)
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    (run,) = told["runs"]
    assert {"gain/inside", "gain/outside", "moved/outside", "drift"} <= run["metrics"].keys()
    assert "leak" in run["metrics"].keys() | told["lacking"].keys()
    assert run["metrics"]["moved/outside"]["mean"] > 0
    assert run["metrics"]["drift"]["mean"] > 0
    assert all(np.isfinite(value) for values in run["errors"].values() for value in values)
    assert len(list((tmp_path / "out" / "samples" / "run").iterdir())) == 4
