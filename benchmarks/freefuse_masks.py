"""How well FreeFuse's masks agree with what then stands there: wide pocket pictures of two shapes.

    python benchmarks/freefuse_masks.py PAIR_BASE [--scenes 24] [--steps 5 8]

PAIR_BASE is the folder of benchmarks/effects/pair_base.py, a pocket model that draws two shapes
side by side. Both are prompted, each shape's words are one concept, the background's words are the
background. The masks of the first phase are compared with the finished picture of the same noise:
the pixels of a shape's colour in its half, of pictures that the judge finds right. `cells` is the
IoU on the masks' own grid (a cell of 4 x 4 pixels is the shape's when half of it is), `pixels` that
of the masks enlarged.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frisket.attention.base import AttentionLayer, Projections
from frisket.attention.capture import match_prompts
from frisket.attention.tokens import locate
from frisket.families.base import FAMILIES, Parts, Source
from frisket.inference.methods.freefuse.collecting import (
    Maps,
    Sight,
    average_maps,
    measure_layer,
    run_until,
    watch_layers,
)
from frisket.inference.methods.freefuse.masks import MaskRule, build_masks
from frisket.inference.methods.freefuse.method import list_layers
from frisket.pocket.judge import NAMES, judge, label
from frisket.pocket.pairs import WIDTH, PairScene, generate_pair, split
from frisket.pocket.world import SIZE

STEPS, GUIDANCE = 20, 3.0
FAMILY = FAMILIES.load("pocket")


def draw_scenes(count: int) -> list[PairScene]:
    """Held-out scenes of two differently coloured shapes."""
    rng, scenes = np.random.RandomState(4), []
    while len(scenes) < count:
        scene = generate_pair(rng)
        if scene.held_out and scene.left.colour != scene.right.colour:
            scenes.append(scene)
    return scenes


def find_truths(pictures: np.ndarray, scenes: list[PairScene]) -> Iterator[tuple[int, Tensor]]:
    """Of each picture that is right, its number and where its shapes are: 2 32 64."""
    halves = split(pictures)
    verdicts = list(zip(*(judge(half) for half in halves), strict=True))
    for index, (scene, found) in enumerate(zip(scenes, verdicts, strict=True)):
        wanted = [(half.shape, half.colour) for half in (scene.left, scene.right)]
        if [(half.shape, half.colour) for half in found] != wanted:
            continue
        truth = torch.zeros(2, SIZE, WIDTH, dtype=torch.bool)
        for side, (half, (_, colour)) in enumerate(zip(halves, wanted, strict=True)):
            own = torch.from_numpy(label(half[index : index + 1])[0] == NAMES.index(colour))
            truth[side, :, side * SIZE : (side + 1) * SIZE] = own
        yield index, truth


def overlap(mask: Tensor, truth: Tensor) -> float:
    """Intersection over union."""
    return float((mask & truth).sum() / (mask | truth).sum().clamp_min(1))


class Stage:
    """The model, its scenes and their prompts, ready to sample."""

    def __init__(self, folder: Path, count: int) -> None:
        source = Source("image", str(folder))
        self.denoiser = FAMILY.load_denoiser(source)
        parts = Parts("image", FAMILY.load_vae(source), None, self.denoiser)
        self.pipeline = FAMILY.pipeline(parts)
        self.pipeline.set_progress_bar_config(disable=True)
        self.scenes = draw_scenes(count)
        prompts = [scene.caption for scene in self.scenes]
        text = FAMILY.load_text(source)
        self.text = FAMILY.embed(text, prompts)["tokens"]
        self.negative = FAMILY.embed(text, [""] * count)["tokens"]
        spans = FAMILY.read_spans(FAMILY.load_tokenizer(source), prompts)
        self.phrases, self.behind = [], []
        for own, scene, prompt in zip(spans, self.scenes, prompts, strict=True):
            halves = (scene.left, scene.right)
            words = [f"{half.colour} {half.shape}" for half in halves]
            self.phrases.append([locate(own, prompt, phrase) for phrase in words])
            self.behind.append([locate(own, prompt, prompt.split(" on ", 1)[1])])

    def call(self) -> dict[str, Any]:
        """What the pipeline is called with: the same noise every time."""
        return {
            "prompt_embeds": self.text,
            "negative_prompt_embeds": self.negative,
            "height": SIZE,
            "width": WIDTH,
            "num_inference_steps": STEPS,
            "guidance_scale": GUIDANCE,
            "generator": [torch.Generator().manual_seed(i) for i in range(len(self.text))],
        }

    def paint(self) -> np.ndarray:
        """The finished pictures, n 32 64 3."""
        clips = self.pipeline(**self.call()).frames[:, 0]
        return (clips * 255).round().byte().permute(0, 2, 3, 1).numpy()

    @torch.no_grad()
    def read(self, step: int, layers: tuple[str, ...], named: bool, sight: Sight) -> Maps:
        """The maps at a step."""
        maps: dict[str, Maps] = {}

        def measure(layer: AttentionLayer, seen: Projections, features: Tensor) -> None:
            behind = self.behind if named else None
            maps[layer.name] = measure_layer(seen, features, self.phrases, behind, sight)

        with ExitStack() as stack:

            def begin() -> None:
                chosen = list_layers(FAMILY, self.denoiser, layers)
                rows, count = match_prompts(self.text), len(self.text)
                stack.enter_context(watch_layers(self.denoiser, chosen, rows, count, measure))

            run_until(self.pipeline, self.call, step, begin)
        return average_maps(list(maps.values()))


def main() -> None:
    """Print a row for each way to look."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 8])
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    stage = Stage(options.base, options.scenes)
    truths = dict(find_truths(stage.paint(), stage.scenes))
    seconds = time.process_time() - began
    print(f"{len(truths)} of {options.scenes} pictures are right; {seconds:.0f} s of CPU")
    ways: dict[str, tuple[tuple[str, ...], bool, MaskRule]] = {
        "default": (FAMILY.suggestions.fuse_layers, True, MaskRule()),
        "background unnamed": (FAMILY.suggestions.fuse_layers, False, MaskRule()),
        "middle layers": (("middle",), True, MaskRule()),
        "way down": (("down_blocks.1.*",), True, MaskRule()),
        "authors' windows": (FAMILY.suggestions.fuse_layers, True, MaskRule(shifted=True)),
    }
    for step in options.steps:
        for name, (layers, named, rule) in ways.items():
            maps = stage.read(step, layers, named, Sight())
            masks = build_masks(maps.concepts, maps.background, maps.cells, rule)[:, :, 0] > 0
            cells, pixels, fronts = [], [], []
            for index, truth in truths.items():
                coarse = torch.nn.functional.adaptive_avg_pool2d(truth.float(), maps.cells[1:])
                scale = SIZE // maps.cells[1]
                fine = masks[index].repeat_interleave(scale, 1).repeat_interleave(scale, 2)
                fronts.append(overlap(masks[index].any(0), (coarse >= 0.5).any(0)))
                for side in range(2):
                    cells.append(overlap(masks[index, side], coarse[side] >= 0.5))
                    pixels.append(overlap(fine[side], truth[side]))
            share = np.mean(np.array(cells) >= 0.8) if cells else 0
            print(
                f"step {step:2} {name:20} cells {np.mean(cells):.3f} (median"
                f" {np.median(cells):.3f}, {share:.0%} at 0.8), pixels {np.mean(pixels):.3f},"
                f" either shape {np.mean(fronts):.3f}",
                flush=True,
            )
    print(f"{time.process_time() - began:.0f} s of CPU")


if __name__ == "__main__":
    main()
