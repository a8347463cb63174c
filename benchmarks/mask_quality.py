"""How good the `draft` backend's masks are, against hand masks and composites; prints tables.

Three sets: the two example photographs as they are (the method was tuned on these), the same
photographs changed, and the persons cut out by hand before drawn backgrounds. Then pictures without
anybody. Two persons are few: read the numbers as "does it work at all". `--photos FOLDER` adds
every picture of a folder to the pictures without a person and as backgrounds of composites.

    OMP_NUM_THREADS=1 python benchmarks/mask_quality.py [--photos FOLDER]
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from measure import table, title
from torch import Tensor

from frisket.data.background_swap import composite, draw
from frisket.evaluation.mask_metrics import MaskScores, boundary_f, compare_labels, iou, pool_scores
from frisket.maskgen.base import BACKENDS, Box, Detections, ModelSource
from frisket.pocket.world import draw as draw_scene
from frisket.pocket.world import draw_background, random_background, random_scene

PHOTOS = Path(__file__).parent.parent / "examples" / "photos"
REGIONS = {"face": 255, "hair": 80, "body": 128}
FACES = {"astronaut": Box(177, 66, 272, 161)}
SIDE = 512
Case = tuple[str, Tensor, Tensor]  # name, picture H W 3, labels H W (the order of REGIONS, from 1)


def read(path: Path) -> Tensor:
    return torch.from_numpy(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))


def photographs() -> Iterator[Case]:
    for path in sorted((PHOTOS / "clips").glob("*.jpg")):
        levels = cv2.imread(str(PHOTOS / "masks" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        labels = np.zeros(levels.shape, np.int64)
        for label, level in enumerate(REGIONS.values(), start=1):
            labels[levels == level] = label
        yield path.stem, read(path), torch.from_numpy(labels)


def resized(picture: Tensor, labels: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    near = cv2.INTER_NEAREST
    return (
        torch.from_numpy(cv2.resize(picture.numpy(), None, None, factor, factor, method)),
        torch.from_numpy(
            cv2.resize(labels.numpy().astype(np.uint8), None, None, factor, factor, near)
        ).long(),
    )


def turned(picture: Tensor, labels: Tensor, angle: float) -> tuple[Tensor, Tensor]:
    high, wide = labels.shape
    turn = cv2.getRotationMatrix2D((wide / 2, high / 2), angle, 1)
    edge = cv2.BORDER_REPLICATE
    small = labels.numpy().astype(np.uint8)
    near = cv2.INTER_NEAREST
    return (
        torch.from_numpy(cv2.warpAffine(picture.numpy(), turn, (wide, high), borderMode=edge)),
        torch.from_numpy(
            cv2.warpAffine(small, turn, (wide, high), flags=near, borderMode=edge)
        ).long(),
    )


def changed(name: str, picture: Tensor, labels: Tensor) -> Iterator[Case]:
    def lit(gain: float) -> Tensor:
        return (picture * gain).clamp(0, 255).to(torch.uint8)

    grain = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)) * 25
    grey = picture.float().mean(-1, keepdim=True).expand(-1, -1, 3).to(torch.uint8).contiguous()
    coarse = cv2.imencode(".jpg", picture.numpy(), [cv2.IMWRITE_JPEG_QUALITY, 15])[1]
    yield f"{name}, mirrored", picture.flip(1).contiguous(), labels.flip(1)
    yield f"{name}, grey", grey, labels
    for gain in (0.2, 0.6, 1.4):
        yield f"{name}, light x {gain}", lit(gain), labels
    for factor in (0.125, 0.5, 2.0):
        yield f"{name}, size x {factor:g}", *resized(picture, labels, factor)
    for angle in (-8, 8):
        yield f"{name}, turned {angle} degrees", *turned(picture, labels, angle)
    yield f"{name}, grain", (picture + grain).clamp(0, 255).to(torch.uint8), labels
    yield (
        f"{name}, JPEG quality 15",
        torch.from_numpy(cv2.imdecode(coarse, cv2.IMREAD_COLOR)),
        labels,
    )


def fitted(picture: Tensor, high: int, wide: int) -> Tensor:
    factor = max(high / picture.shape[0], wide / picture.shape[1])
    grown = cv2.resize(picture.numpy(), None, None, factor, factor, cv2.INTER_AREA)
    return torch.from_numpy(cv2.copyMakeBorder(grown, 0, 2, 0, 2, cv2.BORDER_REPLICATE))[
        :high, :wide
    ]


def backgrounds(photos: list[Path]) -> Iterator[tuple[str, Tensor]]:
    rng, world = np.random.default_rng(31), np.random.RandomState(31)
    for index in range(4):
        for kind in ("flat", "gradient", "noise"):
            yield f"{kind} {index + 1}", draw(kind, rng, SIDE, SIDE)[0]
        pattern = draw_background(random_background(world), SIDE)
        yield f"pattern {index + 1}", torch.from_numpy(pattern)
    for path in photos:
        yield path.stem, read(path)


def composites(name: str, picture: Tensor, labels: Tensor, photos: list[Path]) -> Iterator[Case]:
    keep = (labels > 0).float()[None]
    for ground, behind in backgrounds(photos):
        laid = fitted(behind, *labels.shape)
        made = composite(picture[None], keep, laid[None], feather=1.0)[0]
        yield f"{name} before {ground}", made, labels


def nobody(photos: list[Path]) -> Iterator[tuple[str, Tensor]]:
    yield from backgrounds(photos)
    world = np.random.RandomState(7)
    for index in range(24):
        drawn, _ = draw_scene(random_scene(world), (64, 256, SIDE)[index % 3])
        yield f"pocket {index + 1}", torch.from_numpy(drawn)
    for name, picture, labels in photographs():
        behind = torch.full_like(picture, 90)[None]
        yield (
            f"{name} without the person",
            composite(picture[None], (labels == 0).float()[None], behind)[0],
        )


def labels_of(seen: Detections, shape: torch.Size) -> Tensor:
    labels = torch.zeros(shape, dtype=torch.long)
    for label, region in enumerate(REGIONS, start=1):
        for each in seen.instances:
            if each.region == region:
                labels[each.mask >= 0.5] = label
    return labels


class Measured:
    """Runs the backend over cases and keeps what it found."""

    def __init__(self) -> None:
        self.backend = BACKENDS.load("draft").load(ModelSource())
        self.backend.draft([torch.zeros(64, 64, 3, dtype=torch.uint8)])  # reads the cascades

    def case(self, case: Case) -> tuple[list[object], MaskScores, float]:
        """A row of the table, the scores and the IoU of the whole person."""
        name, picture, truth = case
        began = time.process_time()
        seen = self.backend.draft([picture])[0]
        spent = time.process_time() - began
        labels = labels_of(seen, truth.shape)
        scores = compare_labels(labels[None], truth[None], list(REGIONS))
        person = iou(labels > 0, truth > 0)
        rim = boundary_f(labels > 0, truth > 0)
        told = min((each.score or 0.0 for each in seen.instances), default=0.0)
        numbers = [f"{scores.regions[name].iou:.3f}" for name in REGIONS]
        row = [name, *numbers, f"{person:.3f}", f"{rim:.3f}", f"{told:.2f}", f"{spent:.2f}"]
        return [*row, seen.unsure], scores, person

    def set(self, cases: list[Case], *, every: bool) -> None:
        """Print a table of all cases, or of the worst four, and the means."""
        head = ["picture", *REGIONS, "person", "person's border", "told", "CPU s", "unsure"]
        done = [self.case(case) for case in cases]
        rows = [row for row, _, _ in done]
        if not every:  # the worst few show more than all
            rows = [row for row, _, _ in sorted(done, key=lambda each: each[2])[:4]]
        together = pool_scores([scores for _, scores, _ in done])
        people = [person for _, _, person in done]
        mean = [f"{together.regions[name].iou:.3f}" for name in REGIONS]
        seconds = statistics.mean(float(str(row[-2])) for row, _, _ in done)
        rows.append([f"mean of {len(done)}", *mean, f"{statistics.mean(people):.3f}", "", "", ""])
        rows[-1][-1] = f"{seconds:.2f}"
        rows.append([f"worst of {len(done)}", "", "", "", f"{min(people):.3f}", "", "", ""])
        table(head, [[*row, ""][: len(head)] for row in rows])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="a folder of photographs without people")
    folder = parser.parse_args().photos
    photos = sorted(path for path in folder.iterdir() if path.is_file()) if folder else []
    cv2.setNumThreads(1)
    measured, known = Measured(), list(photographs())
    for name, picture, _ in known:
        for face in measured.backend.faces([picture])[0]:
            if name in FACES:
                print(f"{name}: face box IoU {face.box.overlap(FACES[name]):.3f}")
    title("The photographs as they are: IoU with the hand mask (a hat counts as hair)")
    measured.set(known, every=True)
    title("The photographs changed")
    measured.set([each for case in known for each in changed(*case)], every=True)
    for case in known:
        title(f"{case[0]} before other backgrounds, the worst four")
        measured.set(list(composites(*case, photos)), every=False)
    title("Nobody there: pictures in which somebody was found")
    empty = list(nobody(photos))
    invented = [
        [name, f"{max(each.score or 0 for each in seen.instances):.2f}", seen.unsure]
        for name, picture in empty
        if (seen := measured.backend.draft([picture])[0]).instances
    ]
    table(["picture", "told", "unsure"], [*invented, [f"{len(invented)} of {len(empty)}", "", ""]])


if __name__ == "__main__":
    main()
