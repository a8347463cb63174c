"""Judge the shipped pocket bases on captions they have never seen.

    python scripts/judge_pocket.py [image] [video] --count 200 --guidance 3

Samples `count` held-out captions (`world.is_held_out`), lets the blind analytic judge say what is
on each picture (clips: on every frame), and prints the shares that are right.
"""

import argparse
from itertools import count, islice

import numpy as np
import torch

from frisket.families.base import Source
from frisket.families.models.pocket.family import FAMILY
from frisket.inference.generate import generate
from frisket.pocket.judge import correct, judge
from frisket.pocket.world import MOTIONS, is_held_out, random_scene
from frisket.runs.sampling.samples import load


def main() -> None:
    """Print one line a variant and guidance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", default=["image"])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--guidance", type=float, nargs="*", default=[3.0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for variant in options.variants:
        frames = FAMILY.variants[variant].frames
        rng = np.random.RandomState(20261123)
        motions = tuple(MOTIONS) if frames > 1 else None
        drawn = (random_scene(rng, motions=motions) for _ in count())
        scenes = list(islice(filter(is_held_out, drawn), options.count))
        parts = load(FAMILY, Source(variant))
        for guidance in options.guidance:
            pictures = generate(
                FAMILY,
                parts,
                [scene.caption for scene in scenes],
                seeds=range(len(scenes)),
                guidance=guidance,
            )
            clips = np.stack([picture.frames.numpy() for picture in pictures])
            for frame in range(frames):
                shares = correct(judge(clips[:, frame]), scenes)
                said = "  ".join(f"{name} {share:.3f}" for name, share in shares.items())
                print(f"{variant} guidance {guidance:g} frame {frame}: {said}", flush=True)


if __name__ == "__main__":
    main()
