"""A LoRA of a creature that always stands at one place, trained with and without a ControlNet."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.control.base import CONTROL, VARIANT, open_controlnet
from benchmarks.control.scenes import (
    NEAR,
    PLACE,
    draw_silhouette,
    list_scenes,
    place_creature,
    place_creature_away,
    stack_silhouettes,
    write_scenes,
)
from benchmarks.effects.cells import Cell, Scores, run_cell
from numpy.typing import NDArray

from frisket.config.load import check
from frisket.config.tree import Config
from frisket.families.base import Parts, Source
from frisket.families.control.branch import connect_control
from frisket.families.models.pocket import FAMILY
from frisket.inference import generate
from frisket.inference.sample_specs import build_spec
from frisket.pocket.judge import MATCH_DB, NAMES, find_creature, label
from frisket.pocket.world import Scene
from frisket.recipes.train import train
from frisket.runs.prepare import source_of
from frisket.runs.sampling.sampler import load_sampler

PART, TOOLS = "pose", "tools"
PICTURES, STEPS, BATCH, RATE, RANK = 12, 200, 4, 1e-3, 8
SAMPLES, SAMPLING_STEPS, GUIDANCE = 24, 20, 3.0
# Row: the table [control] beside its source; None trains without a ControlNet.
ROWS: Mapping[str, dict[str, Any] | None] = {
    "plain": None,
    "control": {"dropout": 0.3, "scale": (0.5, 1.0)},
    "control-all": {"dropout": 0.0, "scale": (0.5, 1.0)},
}
Pictures = NDArray[np.uint8]


def make_config(out: Path, name: str, seed: int) -> Config:
    """The run of a row; the pictures are the seed's, the same for every row."""
    folder = out / "pose" / str(seed)
    rng = np.random.RandomState(1_000 + seed)
    write_scenes(folder, [place_creature(rng) for _ in range(PICTURES)])
    data = {"clips": folder / "clips", "masks": folder / "masks", "resolution": 32}
    tree: dict[str, Any] = {
        "model": {"family": "pocket", "variant": VARIANT, "device": "cpu"},
        "regions": {"subject": 1.0, "background": 0.0},
        "lora": {"rank": RANK},
        "optimizer": {"lr": RATE, "warmup": 20, "schedule": "linear", "final": 0.1},
        "run": {
            "output": out / "runs" / f"{name}-{seed}",
            "cache": out / "cache",
            "steps": STEPS,
            "batch": BATCH,
            "seed": seed,
            "save_every": 0,
            "threads": 1,
        },
    }
    control = ROWS[name]
    if control is not None:
        tree["control"] = {"source": open_controlnet(out), **control}
        data["control"] = folder / "control"
    config = Config.model_validate(tree | {"data": [data]})
    check(config)
    return config


def sample_scenes(
    parts: Parts, scenes: Sequence[Scene], seed: int, net: torch.nn.Module | None
) -> Pictures:
    """One picture a caption, all in one batch; under the silhouettes where a net is given."""
    specs = [
        build_spec(
            FAMILY.variants[VARIANT],
            scene.caption,
            100_000 * (seed + 1) + index,
            height=32,
            width=32,
            steps=SAMPLING_STEPS,
            guidance=GUIDANCE,
        )
        for index, scene in enumerate(scenes)
    ]
    embeddings = generate.embed(FAMILY, VARIANT, FAMILY.load_text(Source(VARIANT)), specs)
    assert parts.denoiser is not None
    run = partial(generate.sample, FAMILY, parts, embeddings, specs, batch=len(specs))
    if net is None:
        sampled = list(run())
    else:
        branch = connect_control(FAMILY, parts.denoiser, net)
        control = CONTROL.read(net, parts.vae, stack_silhouettes(scenes))
        with branch.show(control):
            sampled = list(run())
        branch.remove()
    return np.stack([np.asarray(picture.frames[0]) for picture in sampled])


def find_centres(alphas: NDArray[np.float32]) -> NDArray[np.float64]:
    """The centre of mass of each plane, n 2 (x, y), in pixels whose middles are halves."""
    line = np.arange(alphas.shape[1]) + 0.5
    size = np.maximum(alphas.sum((1, 2)), 1e-6)
    x, y = (alphas.sum(1) * line).sum(1) / size, (alphas.sum(2) * line).sum(1) / size
    return np.stack([x, y], 1)


def measure_places(pictures: Pictures) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether the creature is found on each picture, and where its template's centre is."""
    psnr, alphas = find_creature(pictures)
    return psnr >= MATCH_DB, find_centres(alphas)


def find_trained_centre() -> NDArray[np.float64]:
    """Where the centre of the trained creature's own silhouette is: legs move it from PLACE."""
    scene = place_creature(np.random.RandomState(0))
    at_place = Scene(scene.background, "sks", "", *PLACE, scene.radius)
    return find_centres(draw_silhouette(at_place)[None])[0]


def load_net(out: Path) -> torch.nn.Module:
    """The base ControlNet."""
    return CONTROL.load(open_controlnet(out), VARIANT, dtype=torch.float32, device="cpu")


def run_row(out: Path, name: str, seed: int) -> Cell:
    """Train and measure a row, unless that was done."""

    def work() -> tuple[Scores, Pictures]:
        config = make_config(out, name, seed)
        path = config.run.output / "lora.safetensors"
        lora = path if path.is_file() else train(config).lora
        assert lora is not None
        parts = load_sampler(FAMILY, source_of(config, FAMILY), lora=((lora, 1.0),))
        rng = np.random.RandomState(2_000 + seed)
        free = [place_creature(rng) for _ in range(SAMPLES)]
        asked = [place_creature_away(rng) for _ in range(SAMPLES)]
        without = sample_scenes(parts, free, seed, None)
        under = sample_scenes(parts, asked, seed, load_net(out))
        found, centres = measure_places(without)
        near = np.hypot(*(centres[found] - find_trained_centre()).T) <= NEAR
        found_under, centres_under = measure_places(under)
        wanted = find_centres(np.stack([draw_silhouette(scene) for scene in asked]))
        miss = np.hypot(*(centres_under - wanted)[found_under].T)
        scores = {
            "found": found.mean(),
            "near": near.mean() if len(near) else float("nan"),
            "spread": centres[found].std(0).mean() if len(near) else float("nan"),
            "found_under": found_under.mean(),
            "miss": miss.mean() if len(miss) else float("nan"),
        }
        return scores, np.concatenate([without, under])

    return run_cell(out, PART, name, seed, (), work)


def run_tools(out: Path, name: str, seed: int) -> Cell:
    """The base on held-out scenes, under their silhouettes (`on`) or not: where shapes stand."""

    def work() -> tuple[Scores, Pictures]:
        scenes = list_scenes(np.random.RandomState(3_000 + seed), SAMPLES, held_out=True)
        parts = load_sampler(FAMILY, Source(VARIANT))
        pictures = sample_scenes(parts, scenes, seed, load_net(out) if name == "on" else None)
        colours = np.array([NAMES.index(scene.colour) for scene in scenes])
        painted = (label(pictures) == colours[:, None, None]).astype(np.float32)
        wanted = find_centres(np.stack([draw_silhouette(scene) for scene in scenes]))
        there = painted.sum((1, 2)) > 0
        miss = np.hypot(*(find_centres(painted) - wanted)[there].T)
        return {"miss": miss.mean(), "found": there.mean()}, pictures

    return run_cell(out, TOOLS, name, seed, (), work)
