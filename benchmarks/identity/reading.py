"""What a picture of a face shows, read without being told: key points, view, background, likeness.

Generated pictures have no exact key points, and an embedder needs them: a small network finds them,
and which way the person looks. It is trained on drawn portraits of people that are nowhere else
(READERS) in about three minutes, and what it errs on drawn pictures is measured and said.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from benchmarks.identity.people import SIDE, Portrait, sample_portrait
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from frisket.disk.atomic import replacing
from frisket.faces.align import align_faces
from frisket.faces.embedders import tiny
from frisket.pocket.judge import AGREES, label
from frisket.pocket.world import Background, draw_background

READERS = range(70_000, 73_000)  # seeds of people the reader is taught with
STEPS, BATCH, RATE = 1500, 64, 2e-3
NOISE = 0.08  # at most, of pixels in [-1, 1]: samples are not as clean as drawings
VIEW_LOSS = 0.05  # against key points in shares of half the side
EDGE = 3  # pixels of the frame that is background (left, right and top: necks and hair go down)
LOOKS = 0.2  # sine of the turn from which a person looks to a side: in the middle of the gap

Pictures = UInt8[np.ndarray, "n 32 32 3"]


class Reader(nn.Module):
    """Five key points and the sine of the head's turn of pictures of 32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 48, 64)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.GELU()]
            layers += [nn.Conv2d(after, after, 3, 2, padding=1), nn.BatchNorm2d(after), nn.GELU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 128), nn.GELU())
        self.head = nn.Linear(128, 11)

    def forward(self, pictures: Float[Tensor, "n 3 32 32"]) -> tuple[Tensor, Tensor]:
        """Key points n 5 2 in pixels, as `draw_person` counts them, and the turn, n."""
        answers = self.head(self.body(pictures))
        points = answers[:, :10].unflatten(1, (5, 2)) * (SIDE / 2) + (SIDE - 1) / 2
        return points, answers[:, 10]


def lay_pixels(pictures: Pictures) -> Float[Tensor, "n 3 32 32"]:
    """Bytes as pixels in [-1, 1]."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def draw_lesson(portraits: Sequence[Portrait]) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, key points and turns of drawn portraits."""
    drawn = [portrait.draw() for portrait in portraits]
    points = torch.from_numpy(np.stack([each.keypoints for each in drawn]))
    turns = torch.tensor([portrait.view.yaw for portrait in portraits], dtype=torch.float32)
    return lay_pixels(np.stack([each.picture for each in drawn])), points, turns


def train_reader(path: Path, steps: int = STEPS) -> Reader:
    """The reader of `path`, trained and written there where there is none yet."""
    torch.manual_seed(0)
    reader = Reader()
    if path.is_file():
        reader.load_state_dict(load_file(path))
        return reader.eval()
    rng = np.random.RandomState(0)
    lesson = draw_lesson(
        [
            sample_portrait(np.random.RandomState(draw % 2**31), seed)
            for seed in READERS
            for draw in (seed, -seed)
        ]
    )
    optimizer = torch.optim.AdamW(reader.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.from_numpy(rng.randint(len(lesson[0]), size=BATCH))
        pixels, points, turns = (part[rows] for part in lesson)
        noise = torch.rand(BATCH, 1, 1, 1, generator=generator) * NOISE
        pixels = pixels + noise * torch.randn(pixels.shape, generator=generator)
        read, turned = reader(pixels)
        error = ((read - points) / (SIDE / 2)).abs().mean()
        loss = error + VIEW_LOSS * functional.smooth_l1_loss(turned, turns, beta=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with replacing(path) as draft:
        save_file(reader.state_dict(), draft)
    return reader.eval()


@torch.no_grad()
def read_pictures(
    reader: Reader, pictures: Pictures
) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Key points n 5 2 in pixels, and where each person looks: `left`, `ahead` or `right`."""
    points, turns = reader(lay_pixels(pictures))
    looks = np.where(turns < -LOOKS, "left", np.where(turns > LOOKS, "right", "ahead"))
    return points.numpy(), looks


@torch.no_grad()
def embed_pictures(pictures: Pictures, keypoints: NDArray[np.float32]) -> Float[Tensor, "n 64"]:
    """Unit embeddings by the package's tiny embedder."""
    aligned = align_faces(lay_pixels(pictures), torch.from_numpy(keypoints))
    return functional.normalize(tiny.load("", "cpu").embed(aligned), dim=-1)


def centre_people(people: Sequence[int], views: int = 16) -> Float[Tensor, "p 64"]:
    """Each person's mean embedding over drawn portraits with exact key points, of length 1."""
    centres = []
    for person in people:
        drawn = [
            sample_portrait(np.random.RandomState(index), person).draw() for index in range(views)
        ]
        pictures = np.stack([each.picture for each in drawn])
        units = embed_pictures(pictures, np.stack([each.keypoints for each in drawn]))
        centres.append(functional.normalize(units.mean(0), dim=0))
    return torch.stack(centres)


def match_backgrounds(pictures: Pictures, backgrounds: Sequence[Background]) -> NDArray[np.float64]:
    """Of the frame's pixels, the share with the right colour at the right place."""
    edge = np.zeros((SIDE, SIDE), bool)
    edge[:EDGE] = edge[:, :EDGE] = edge[:, -EDGE:] = True
    edge[SIDE // 2 :] = False
    painted = label(pictures)
    wanted = label(np.stack([draw_background(background) for background in backgrounds]))
    shares: NDArray[np.float64] = (painted == wanted)[:, edge].mean(1)
    return shares


def is_right_background(pictures: Pictures, backgrounds: Sequence[Background]) -> NDArray[np.bool_]:
    """Whether AGREES of the frame is as asked for (the pocket judge's own bound)."""
    right: NDArray[np.bool_] = match_backgrounds(pictures, backgrounds) >= AGREES
    return right
