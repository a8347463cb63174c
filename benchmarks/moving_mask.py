"""A subject that moves: what a mask a frame teaches, and what one still mask for the whole clip.

Eight clips of the new subject crossing its one background (exact masks known), trained on the
pocket clip model three ways: no mask, the union of its places as one still mask, a mask for every
frame. Leak: share of the pixels outside the subject that have a colour of that background, over
all frames of samples that name no background (lower is better). Everything but the mask is equal.

Run: OMP_NUM_THREADS=1 python benchmarks/moving_mask.py [seeds]
"""

import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import mkdtemp

import numpy as np
import torch

from frisket.adapters import lora
from frisket.config.tree import Config
from frisket.families.base import FAMILIES, Parts
from frisket.inference.generate import generate
from frisket.media.frames import write_image, write_video
from frisket.media.quiet import quiet
from frisket.pocket.judge import find_creature, leak
from frisket.pocket.world import draw, frames_of, random_creature
from frisket.recipes.train import train
from frisket.runs.prepare import source_of

CLIPS, FRAMES, STEPS, SAMPLES = 8, 5, 300, 16
STRIDE = 2.5  # units a frame: the subject crosses a third of the picture
WAYS = ("none", "union", "frames")
DIRECTIONS = ("rightward", "leftward", "rising", "falling")


def make_clips(folder: Path, seed: int) -> None:
    """clips/N.mkv with captions, frames/N.mkv (a mask a frame), union/N.png (all places)."""
    rng = np.random.RandomState(177 + seed)
    for index in range(CLIPS):
        scene = replace(random_creature(rng), motion=DIRECTIONS[index % 4], x=16.0, y=16.0)
        drawn = [draw(each) for each in frames_of(scene, FRAMES, STRIDE)]
        cover = np.stack([np.clip(sum(planes.values()), 0, 1) for _, planes in drawn])
        grey = torch.from_numpy((cover * 255).round().astype(np.uint8))[..., None].repeat(
            1, 1, 1, 3
        )
        for name in ("clips", "frames", "union"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        pixels = torch.from_numpy(np.stack([picture for picture, _ in drawn]))
        write_video(folder / "clips" / f"{index}.mkv", pixels, 8, lossless=True)
        write_video(folder / "frames" / f"{index}.mkv", grey, 8, lossless=True)
        write_image(folder / "union" / f"{index}.png", grey.amax(0))
        (folder / "clips" / f"{index}.txt").write_text(f"{scene.motion} sks\n", encoding="utf-8")


def run(folder: Path, way: str, seed: int) -> tuple[float, float]:
    """Train one way; leak and fidelity (dB) over all frames of the samples."""
    data = {"clips": folder / "clips", "frames": FRAMES, "fps": 8.0}
    if way != "none":
        data["masks"] = folder / way
    config = Config.model_validate(
        {
            "model": {"family": "pocket", "variant": "video", "device": "cpu"},
            "data": [data],
            "lora": {"rank": 16},
            "optimizer": {"lr": 1e-3, "warmup": 10},
            "run": {
                "output": folder / way / "run" if way != "none" else folder / "run-none",
                "cache": folder / "cache",
                "steps": STEPS,
                "batch": 8,
                "seed": seed,
                "save_every": 0,
            },
        }
    )
    outcome = train(config)
    family = FAMILIES.load("pocket")
    source = source_of(config, family)
    parts = Parts(
        "video", family.load_vae(source), family.load_text(source), family.load_denoiser(source)
    )
    lora.load(parts.denoiser, outcome.lora, prefix=family.lora_prefix, names=family.names)
    prompts = [f"{DIRECTIONS[index % 4]} sks" for index in range(SAMPLES)]
    pictures = generate(family, parts, prompts, seeds=range(1000, 1000 + SAMPLES))
    frames = np.concatenate([np.asarray(picture.frames) for picture in pictures])
    return float(leak(frames).mean()), float(find_creature(frames)[0].mean())


def main() -> None:
    quiet()
    torch.set_num_threads(1)
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for seed in range(seeds):
        folder = Path(mkdtemp(prefix="frisket-moving-"))
        make_clips(folder, seed)
        for way in WAYS:
            found[way].append(run(folder, way, seed))
            print(seed, way, *(f"{value:.3f}" for value in found[way][-1]), flush=True)
    print("| mask | leak | each seed | fidelity, dB |\n|---|---|---|---|")
    for way, pairs in found.items():
        leaks, clear = zip(*pairs, strict=True)
        each = " / ".join(f"{value:.3f}" for value in leaks)
        print(f"| {way} | {fmean(leaks):.3f} | {each} | {fmean(clear):.1f} |")


if __name__ == "__main__":
    main()
