"""Train the detector of procedural people, and say how well it finds unseen ones.

    python scripts/pretrain_detector.py OUT.safetensors
    python scripts/pretrain_detector.py OUT.safetensors --verify      # the numbers alone

CenterNet's focal loss on middles (arXiv:1904.07850, equation 1) and absolute differences on points
and boxes; then a closer look at aligned faces, trained apart. Pictures are blurred, noised and
without faces too, as those of a model in training are. The same seeds and thread count give the
same run.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from frisket.faces.align import TEMPLATE, fit_similarity, warp_faces
from frisket.faces.base import SIDE
from frisket.faces.detect import find_faces
from frisket.faces.detectors.drawn import DrawnFaceDetector
from frisket.faces.drawn import (
    CELL,
    DRAWN_SIDE,
    REFINED_SIDE,
    SPOTS,
    DrawnFaceFinder,
    DrawnFaceNetworks,
    PointRefiner,
    locate_cells,
)
from frisket.pocket.portraits import draw_person, sample_person, sample_view
from frisket.pocket.world import draw, draw_background, random_background, random_scene

SIDES = (32, 40, 48, 64, 80)  # pixels that portraits are drawn at
ALONE, EMPTY = 0.6, 0.2  # shares of one portrait a picture, and of none; else one or two, smaller
MOST = 2  # faces a picture
UNSEEN = 1_000_000  # seeds from here on are never trained on


@dataclass
class Drawing:
    """A picture of 64 pixels, and the spots and half boxes of its faces."""

    picture: NDArray[np.uint8]
    spots: NDArray[np.float32]  # faces 6 2
    halves: NDArray[np.float32]  # faces 2


def draw_picture(seed: int) -> Drawing:
    """What is learnt: one portrait, one or two on a wall, or none."""
    rng = np.random.RandomState(seed)
    kind = rng.uniform()
    if kind < ALONE:
        return draw_portrait(rng, DRAWN_SIDE)
    if kind < ALONE + EMPTY:
        scene = random_scene(rng)
        nothing = np.zeros((0, SPOTS, 2), np.float32)
        return Drawing(draw(scene, DRAWN_SIDE)[0].copy(), nothing, nothing[:, 0])
    board = draw_background(random_background(rng), DRAWN_SIDE).copy()
    spots, halves, left = [], [], 0
    for _ in range(rng.randint(1, MOST + 1)):
        side = rng.randint(26, 33) if left or rng.randint(2) else rng.randint(33, 56)
        if left + side > DRAWN_SIDE:
            break
        portrait = draw_portrait(rng, side)
        x = left + rng.randint(0, max((DRAWN_SIDE - left - side) // 2, 0) + 1)
        y = rng.randint(0, DRAWN_SIDE - side + 1)
        board[y : y + side, x : x + side] = portrait.picture
        spots.append(portrait.spots[0] + np.array([x, y], np.float32))
        halves.append(portrait.halves[0])
        left = x + side
    return Drawing(board, np.stack(spots), np.stack(halves))


def draw_portrait(rng: np.random.RandomState, side: int) -> Drawing:
    """A portrait `side` pixels square, drawn at another size."""
    size = SIDES[rng.randint(len(SIDES))]
    person, view = sample_person(rng), sample_view(rng)
    portrait = draw_person(person, view, size)
    way = cv2.INTER_AREA if size > side else cv2.INTER_LINEAR
    picture = np.asarray(cv2.resize(portrait.picture, (side, side), interpolation=way), np.uint8)
    points = (portrait.keypoints + 0.5) * side / size - 0.5
    middle = np.array([[view.x, view.y]]) * side - 0.5
    half = np.array([[person.head_width, 1.0]]) * view.size * side
    spots = np.concatenate([middle, points])[None].astype(np.float32)
    return Drawing(picture, spots, half.astype(np.float32))


def stack_drawings(drawings: list[Drawing]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures uint8, spots, halves and whether each of MOST places is taken."""
    pictures = torch.stack([torch.from_numpy(d.picture) for d in drawings]).permute(0, 3, 1, 2)
    spots = torch.zeros(len(drawings), MOST, SPOTS, 2)
    halves = torch.ones(len(drawings), MOST, 2)
    there = torch.zeros(len(drawings), MOST, dtype=torch.bool)
    for row, drawing in enumerate(drawings):
        count = len(drawing.spots)
        spots[row, :count] = torch.from_numpy(drawing.spots)
        halves[row, :count] = torch.from_numpy(drawing.halves)
        there[row, :count] = True
    return pictures, spots, halves, there


def disturb(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 to [-1, 1], some of them blurred, dimmed and noisy."""
    count = len(pictures)
    clean = pictures.float() / 127.5 - 1
    blurred = functional.avg_pool2d(functional.pad(clean, (1, 1, 1, 1), mode="replicate"), 3, 1)
    again = functional.avg_pool2d(functional.pad(blurred, (1, 1, 1, 1), mode="replicate"), 3, 1)
    draw_kind = torch.rand(count, 1, 1, 1, generator=generator)
    mixed = torch.where(draw_kind < 0.5, clean, torch.where(draw_kind < 0.8, blurred, again))
    noise = torch.randn(mixed.shape, generator=generator)
    level = 0.15 * torch.rand(count, 1, 1, 1, generator=generator) ** 2
    gain = 1 + 0.15 * torch.randn(count, 1, 1, 1, generator=generator)
    return (mixed * gain + noise * level).clamp(-1, 1)


def measure_loss(
    network: DrawnFaceFinder,
    pictures: Tensor,
    spots: Tensor,
    halves: Tensor,
    there: Tensor,
) -> Tensor:
    """Focal loss of middles, and absolute differences in the cells about them."""
    scores, guessed_halves, guessed = network(pictures)
    places = locate_cells(scores)  # y x 2
    away = (places[None, None] - spots[:, :, :1, None].transpose(2, 3)).square().sum(-1)
    heat = torch.exp(-away / (2 * CELL**2)) * there[..., None, None]  # b faces y x
    nearest = (away == away.flatten(2).amin(-1)[..., None, None]) & there[..., None, None]
    goal, is_middle = heat.amax(1), nearest.any(1)
    sure = scores.sigmoid().clamp(1e-4, 1 - 1e-4)
    hit = -((1 - sure) ** 2) * sure.log() * is_middle
    miss = -((1 - goal) ** 4) * sure**2 * (1 - sure).log() * ~is_middle
    faces = there.sum().clamp(min=1)
    close = (away < (1.6 * CELL) ** 2) & there[..., None, None]
    gap = (guessed[:, None] - spots[:, :, None, None]).abs().mean((-1, -2)) / CELL
    edge = (guessed_halves[:, None].log() - halves[:, :, None, None].log()).abs().mean(-1)
    cells = close.sum().clamp(min=1)
    return (hit + miss).sum() / faces + ((gap + edge) * close).sum() / cells


def train(drawings: list[Drawing], steps: int, batch: int) -> DrawnFaceFinder:
    """The network after `steps` batches."""
    torch.manual_seed(0)
    network = DrawnFaceFinder()
    assert network.head.bias is not None
    torch.nn.init.constant_(network.head.bias[:1], -3.0)  # most cells hold no middle
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    pictures, spots, halves, there = stack_drawings(drawings)
    generator, start = torch.Generator().manual_seed(0), time.time()
    for step in range(steps):
        rows = torch.randint(len(pictures), (batch,), generator=generator)
        noisy = disturb(pictures[rows], generator)
        loss = measure_loss(network, noisy, spots[rows], halves[rows], there[rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"{step:5} loss {loss.item():7.3f} {time.time() - start:6.0f} s", flush=True)
    return network.eval()


def draw_crops(seeds: range) -> tuple[Tensor, Tensor]:
    """Faces laid by points that are a little off, uint8, and where the true ones lie in them."""
    crops, offsets = [], []
    template = torch.tensor(TEMPLATE) * (REFINED_SIDE / SIDE)
    for seed in seeds:
        rng = np.random.RandomState(seed)
        size = SIDES[rng.randint(len(SIDES))]
        portrait = draw_person(sample_person(rng), sample_view(rng), size)
        points = torch.from_numpy(portrait.keypoints)
        off = size * rng.uniform(0, 1.3) * (0.015 * rng.randn(1, 2) + 0.02 * rng.randn(5, 2))
        similarity = fit_similarity((points + torch.from_numpy(off).float())[None], REFINED_SIDE)
        pixels = torch.from_numpy(portrait.picture).permute(2, 0, 1)[None] / 127.5 - 1
        crop = warp_faces(pixels, similarity, REFINED_SIDE)[0]
        crops.append(((crop + 1) * 127.5).round().clamp(0, 255).byte())
        offsets.append(points @ similarity[0, :, :2].T + similarity[0, :, 2] - template)
    return torch.stack(crops), torch.stack(offsets)


def train_refiner(seeds: range, steps: int, batch: int) -> PointRefiner:
    """The closer look, after `steps` batches."""
    torch.manual_seed(1)
    crops, offsets = draw_crops(seeds)
    network = PointRefiner()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    generator, start = torch.Generator().manual_seed(1), time.time()
    for step in range(steps):
        rows = torch.randint(len(crops), (batch,), generator=generator)
        loss = (network(disturb(crops[rows], generator)) - offsets[rows]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"{step:5} off by {loss.item():6.3f} {time.time() - start:6.0f} s", flush=True)
    return network.eval()


def verify(network: DrawnFaceNetworks, count: int) -> dict[str, float]:
    """Unseen pictures: faces found, false ones, and errors in shares of half a head's height."""
    detector = DrawnFaceDetector(network)
    real = found = false = 0
    errors: list[float] = []
    for seed in range(UNSEEN, UNSEEN + count):
        drawing = draw_picture(seed)
        faces = find_faces(detector, torch.from_numpy(drawing.picture))
        middles = [spots[0] for spots in drawing.spots]
        real += len(middles)
        owners: set[int] = set()
        for face in faces:
            gaps = [float(np.hypot(*(np.array(face.box.centre) - middle))) for middle in middles]
            nearest = int(np.argmin(gaps)) if gaps else -1
            if nearest < 0 or nearest in owners or gaps[nearest] > drawing.halves[nearest, 1]:
                false += 1
                continue
            owners.add(nearest)
            assert face.keypoints is not None
            gap = face.keypoints.numpy() - drawing.spots[nearest, 1:]
            errors.append(float(np.hypot(*gap.T).mean() / drawing.halves[nearest, 1]))
        found += len(owners)
    return {
        "found": found / max(real, 1),
        "false, a picture": false / count,
        "points, mean error in half heads": float(np.mean(errors)),
        "points, 95 % below": float(np.quantile(errors, 0.95)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--crops", type=int, default=12_000)
    parser.add_argument("--closer", type=int, default=3000, help="steps of the closer look")
    parser.add_argument("--finder", type=Path, help="its weights, where they were trained before")
    parser.add_argument("--verify", action="store_true", help="measure OUT, train nothing")
    options = parser.parse_args()
    networks = DrawnFaceNetworks().eval()
    if not options.verify:
        begin = time.time()
        if options.finder:
            networks.finder.load_state_dict(load_file(options.finder))
        else:
            drawings = [draw_picture(seed) for seed in range(options.pictures)]
            print(f"drawn in {time.time() - begin:.0f} s", flush=True)
            networks.finder = train(drawings, options.steps, options.batch)
        begin_crops = UNSEEN // 2
        seeds = range(begin_crops, begin_crops + options.crops)
        networks.refiner = train_refiner(seeds, options.closer, 2 * options.batch)
        weights = {key: value.half().contiguous() for key, value in networks.state_dict().items()}
        save_file(weights, options.out)
    weights = {key: value.float() for key, value in load_file(options.out).items()}
    networks.load_state_dict(weights)
    for name, value in verify(networks, 400).items():
        print(f"{name}: {value:.4f}")


if __name__ == "__main__":
    main()
