"""How far a background swap in latent space is from one in pixels, and what each costs.

    .venv/bin/python benchmarks/latent_swap.py [STEPS]

The same composites twice: encode(clip over background), and k encode(clip) + (1 - k) encode(
background) under the share k of each cell. On the pocket VAE (real: it folds pixels into channels)
and on a tiny AutoencoderKL. With random weights that shows how far from the seam both may differ
(receptive field; attention and group norms see the whole picture), not how much they do
on a trained VAE. With STEPS it is trained for so many steps to reproduce scenes of the pocket world
(64 pixels): a real code, if of a small world.
"""

import sys
import time

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from frisket.data.background_swap import composite
from frisket.data.composites.layers import lay_latents
from frisket.families.models.pocket.family import PocketVae
from frisket.grid import LatentGrid
from frisket.masks.coverage import to_latent
from frisket.pocket import world

CLIPS = 16
TRAINED, BATCH = 64, 8  # pixels and pictures of the little VAE's training
RINGS = (0, 1, 2, 4, 8)  # distances from the seam in cells, from each on to the next


def draw_pair(rng: np.random.RandomState, size: int, cell: int, *, aligned: bool) -> list[Tensor]:
    """A clip, its mask (made of whole cells where `aligned`), another background; frames first."""
    picture, planes = world.draw(world.random_creature(rng), size)
    keep = torch.from_numpy(np.clip(sum(planes.values()), 0, 1))[None]
    if aligned:
        cells = (to_latent(keep[None], LatentGrid(1, cell))[0] >= 0.5).float()
        keep = cells.repeat_interleave(cell, 1).repeat_interleave(cell, 2)
    ground = world.draw_background(world.random_background(rng), size)
    return [torch.from_numpy(picture.copy())[None], keep, torch.from_numpy(ground.copy())[None]]


def to_clip(frames: Tensor) -> Tensor:
    """Frames F H W 3 as a clip of a batch of one in [-1, 1]."""
    return frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1


@torch.enable_grad()
def train(vae: AutoencoderKL, steps: int) -> float:
    """Teach a VAE to reproduce scenes; returns its mean squared error on the last batch."""
    rng, loss = np.random.RandomState(1), torch.zeros(())
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        pictures = [world.draw(world.random_scene(rng), TRAINED)[0] for _ in range(BATCH)]
        clips = torch.cat([to_clip(torch.from_numpy(p.copy())[None])[:, :, 0] for p in pictures])
        posterior = vae.encode(clips).latent_dist
        loss = (vae.decode(posterior.sample()).sample - clips).square().mean()
        optimizer.zero_grad()
        (loss + 1e-5 * posterior.kl().mean() / clips[0].numel()).backward()
        optimizer.step()
    return float(loss.detach())


def build_encoders(grid: LatentGrid, steps: int) -> dict[str, tuple[LatentGrid, object]]:
    """Encoders by name: a clip b 3 F H W to latents c f h w."""
    pocket = PocketVae()
    torch.manual_seed(0)
    widths = (16, 32, 32)
    tiny = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=widths,
        norm_num_groups=8,
        latent_channels=4,
    )
    error = train(tiny, steps) if steps else 0.0
    state = f"{steps} steps, error {error:.4f}" if steps else "random"
    tiny.eval()
    return {
        "pocket": (grid, lambda clip: pocket.encode(clip)[0]),
        f"AutoencoderKL, {state}": (
            LatentGrid(4, 4),
            lambda clip: tiny.encode(clip[:, :, 0]).latent_dist.mode()[0][:, None],
        ),
    }


def measure(name: str, grid: LatentGrid, encode: object, size: int, *, aligned: bool) -> None:
    """Print one row: mean squared error over the mean square of the latents, by distance."""
    rng = np.random.RandomState(0)
    errors: dict[int, list[float]] = {ring: [] for ring in RINGS}
    seconds = {"pixel": 0.0, "latent": 0.0}
    for _ in range(CLIPS):
        frames, keep, ground = draw_pair(rng, size, grid.spatial, aligned=aligned)
        began = time.process_time()
        in_pixels = encode(to_clip(composite(frames, keep, ground)))  # type: ignore[operator]
        seconds["pixel"] += time.process_time() - began
        clip, behind = encode(to_clip(frames)), encode(to_clip(ground))  # type: ignore[operator]
        cells = to_latent(keep[None], grid)
        began = time.process_time()
        in_latents = lay_latents(behind, clip, cells)
        seconds["latent"] += time.process_time() - began
        share = (in_pixels - in_latents).square().mean(0)[0] / in_pixels.square().mean()
        distance = measure_distance(cells[0, 0])
        for low, high in zip(RINGS, (*RINGS[1:], np.inf), strict=True):
            ring = (distance >= low) & (distance < high)
            errors[low] += share[torch.from_numpy(ring)].tolist()
    cells_of = [f"{np.mean(errors[ring]):.2e}" if errors[ring] else "-" for ring in RINGS]
    costs = [f"{1000 * value / CLIPS:.2f}" for value in seconds.values()]
    row = [name, str(size), "cells" if aligned else "own", *cells_of, *costs]
    print(f"| {' | '.join(row)} |", flush=True)


def measure_distance(cells: Tensor) -> np.ndarray:
    """Distance of each cell from the nearest mixed one (or from the nearest border of the kept)."""
    kept = cells.numpy()
    mixed = (kept > 0) & (kept < 1)
    hard = (kept >= 0.5).astype(np.uint8)
    border = hard != cv2.erode(hard, np.ones((3, 3), np.uint8))
    seam = mixed if mixed.any() else border | (cv2.dilate(hard, np.ones((3, 3), np.uint8)) != hard)
    distance: np.ndarray = cv2.distanceTransform((~seam).astype(np.uint8), cv2.DIST_C, 3)
    return distance


@torch.no_grad()
def main() -> None:
    """Print the table."""
    rings = "seam | 1 cell away | 2, 3 | 4 to 7 | 8 on"
    print(f"| VAE | pixels | mask | {rings} | pixel ms | latent ms |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    encoders = build_encoders(LatentGrid(12, 2), steps)
    for name, (grid, encode) in encoders.items():
        for size in (32, 256) if name == "pocket" else (TRAINED if steps else 256,):
            for aligned in (True, False):
                measure(name, grid, encode, size, aligned=aligned)


if __name__ == "__main__":
    main()
