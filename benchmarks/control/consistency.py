"""A ControlNet trained from the base with and without the consistency term."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.control.base import CONTROL, VARIANT, predict_controlled
from benchmarks.control.scenes import draw_silhouette, list_scenes, stack_pictures, write_scenes
from benchmarks.effects.cells import Cell, Scores, run_cell
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from frisket.config.load import check
from frisket.config.tree import Config
from frisket.families.base import Source
from frisket.families.control.branch import connect_control
from frisket.families.models.pocket import FAMILY
from frisket.families.shared.pocket.text import embed
from frisket.inference import generate
from frisket.inference.sample_specs import build_spec
from frisket.losses.structure import EXTRACTORS
from frisket.pocket.world import Scene, draw
from frisket.recipes.train import train
from frisket.runs.sampling.sampler import load_sampler
from frisket.shapes import Clip

PART = "consistency"
PICTURES, STEPS, BATCH, RATE = 200, 300, 8, 1e-3
MEASURED, LEVELS = 32, (0.2, 0.5, 0.8)
SAMPLING_STEPS, GUIDANCE = 12, 1.0
GROWN = 2  # pixels around the subject that its edges are in
EXTRACTOR = "edges"  # Sobel
ROWS: Mapping[str, dict[str, Any] | None] = {
    "off": {},
    "on": {"consistency": {"strength": 0.5, "extractor": EXTRACTOR}},
    "strong": {"consistency": {"strength": 50.0, "extractor": EXTRACTOR}},
}
Pictures = NDArray[np.uint8]


def find_edges(clip: Clip) -> Float[Tensor, "b 1 1 H W"]:
    """The Sobel map of pictures b 3 1 H W in [0, 1], cut off at 1 as a picture of it is."""
    return EXTRACTORS[EXTRACTOR](clip).clamp(0, 1)


def draw_controls(scenes: list[Scene]) -> Pictures:
    """The Sobel map of each drawn scene as a grey picture, n H W 3."""
    edges = find_edges(stack_pictures(scenes) / 2 + 0.5)[:, 0, 0]
    levels = (edges * 255).round().to(torch.uint8).numpy()
    return np.asarray(levels)[..., None].repeat(3, 3)


def make_config(out: Path, name: str, seed: int) -> Config:
    """The run of a row; every seed has the same pictures."""
    folder = out / "consistency"
    scenes = list_scenes(np.random.RandomState(77), PICTURES)
    write_scenes(folder, scenes, draw_controls(scenes))
    data = {
        "clips": folder / "clips",
        "masks": folder / "masks",
        "control": folder / "control",
        "resolution": 32,
    }
    tree: dict[str, Any] = {
        "model": {"family": "pocket", "variant": VARIANT, "device": "cpu", "train": "controlnet"},
        "data": [data],
        "regions": {"subject": 1.0, "background": 0.1},
        "optimizer": {"lr": RATE, "warmup": 20, "schedule": "linear", "final": 0.1},
        "run": {
            "output": out / "runs" / f"controlnet-{name}-{seed}",
            "cache": out / "cache",
            "steps": STEPS,
            "batch": BATCH,
            "seed": seed,
            "save_every": 0,
            "threads": 1,
        },
    }
    if terms := ROWS[name]:
        tree["losses"] = terms
    config = Config.model_validate(tree)
    check(config)
    return config


def open_net(out: Path, name: str, seed: int) -> nn.Module:
    """The ControlNet of a row, trained where it is not there yet."""
    config = make_config(out, name, seed)
    folder = config.run.output / "controlnet"
    if not (folder / "config.json").is_file():
        train(config)
    return CONTROL.load(folder, VARIANT, dtype=torch.float32, device="cpu")


@torch.no_grad()
def measure_errors(net: nn.Module | None, scenes: list[Scene], seed: int) -> Scores:
    """Squared errors of the velocity in the subject's mask and outside it, over LEVELS."""
    parts = load_sampler(FAMILY, Source(VARIANT))
    vae: Any = parts.vae
    clean, tokens = vae.encode(stack_pictures(scenes)), embed([s.caption for s in scenes])
    masks = torch.from_numpy(np.stack([draw_silhouette(scene) for scene in scenes]))
    cells = functional.avg_pool2d(masks[:, None], 2)[:, :, None]  # b 1 1 h w
    generator, inside, outside = torch.Generator().manual_seed(seed), 0.0, 0.0
    for level in LEVELS:
        noise = torch.randn(clean.shape, generator=generator)
        noisy, t = (1 - level) * clean + level * noise, torch.full((len(clean),), level)
        if net is None:
            conditioning = {"tokens": tokens}
            assert parts.denoiser is not None
            velocity = FAMILY.predict(parts.denoiser, noisy, t, conditioning)
        else:
            control = CONTROL.read(net, vae, read_controls(scenes))
            velocity = predict_controlled(net, parts.denoiser, noisy, t, tokens, control)
        error = (velocity - (noise - clean)).square().mean(1, keepdim=True)
        inside += float((error * cells).sum() / cells.sum()) / len(LEVELS)
        outside += float((error * (1 - cells)).sum() / (1 - cells).sum()) / len(LEVELS)
    return {"inside": inside, "outside": outside}


def read_controls(scenes: list[Scene]) -> Clip:
    """Control clips b 3 1 H W in [0, 1], from their pictures as a data set has them."""
    pictures = torch.from_numpy(draw_controls(scenes))
    return pictures.permute(0, 3, 1, 2)[:, :, None].float() / 255


def sample_controlled(net: nn.Module | None, scenes: list[Scene], seed: int) -> Pictures:
    """One picture a scene's caption, under its control where a net is given."""
    specs = [
        build_spec(
            FAMILY.variants[VARIANT],
            scene.caption,
            200_000 * (seed + 1) + index,
            height=32,
            width=32,
            steps=SAMPLING_STEPS,
            guidance=GUIDANCE,
        )
        for index, scene in enumerate(scenes)
    ]
    parts = load_sampler(FAMILY, Source(VARIANT))
    embeddings = generate.embed(FAMILY, VARIANT, FAMILY.load_text(Source(VARIANT)), specs)
    assert parts.denoiser is not None
    run = partial(generate.sample, FAMILY, parts, embeddings, specs, batch=len(specs))
    if net is None:
        sampled = list(run())
    else:
        branch = connect_control(FAMILY, parts.denoiser, net)
        with branch.show(CONTROL.read(net, parts.vae, read_controls(scenes))):
            sampled = list(run())
        branch.remove()
    return np.stack([np.asarray(picture.frames[0]) for picture in sampled])


def measure_control(pictures: Pictures, scenes: list[Scene]) -> Scores:
    """Mean absolute difference of samples' Sobel maps from the controls, everywhere and inside."""
    clips = torch.from_numpy(pictures).permute(0, 3, 1, 2)[:, :, None].float() / 255
    wanted = read_controls(scenes)[:, :1]
    difference = (find_edges(clips) - wanted).abs()[:, 0, 0]
    masks = torch.from_numpy(np.stack([draw_silhouette(scene) >= 0.5 for scene in scenes]))
    grown = functional.max_pool2d(masks[:, None].float(), 2 * GROWN + 1, 1, GROWN)[:, 0]
    within = float((difference * grown).sum() / grown.sum())
    return {"control": float(difference.mean()), "control_inside": within}


def run_row(out: Path, name: str, seed: int) -> Cell:
    """Train and measure a row, or the base alone (`base`), unless that was done."""

    def work() -> tuple[Scores, Pictures]:
        scenes = list_scenes(np.random.RandomState(5_000 + seed), MEASURED, held_out=True)
        net = None if name == "base" else open_net(out, name, seed)
        pictures = sample_controlled(net, scenes, seed)
        scores = {**measure_errors(net, scenes, seed), **measure_control(pictures, scenes)}
        shown = np.stack([draw(scene)[0] for scene in scenes[:8]])
        return scores, np.concatenate([shown, draw_controls(scenes[:8]), pictures[:8]])

    return run_cell(out, PART, name, seed, (), work)
