"""CPU time to write 300 label frames of 1280 x 720 as FFV1 .mkv and to read them back; a table.

Process CPU time on one thread, decoder threads included. The target is 60 frames/s each way. The
labels are a head, hair and a body that move; `soft` is one of them with a feathered edge; `noise`,
every level of grey in every pixel, is the worst case and no mask.

    OMP_NUM_THREADS=1 python benchmarks/mask_video_cost.py [frames]
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from measure import table, title
from torch import Tensor

from frisket.media.frames import stream, writing_labels

HEIGHT, WIDTH = 720, 1280
TARGET = 60.0


def people(count: int) -> Iterator[Tensor]:
    """Labels 0 to 3, flat, with ragged outlines."""
    for index in range(count):
        frame = np.zeros((HEIGHT, WIDTH), np.uint8)
        x, y = 300 + 2 * index, int(300 + 50 * np.sin(index / 20))
        cv2.ellipse(frame, (x, y + 330), (190, 300), 0, 0, 360, 3, -1)
        turn = np.linspace(0, 2 * np.pi, 400)
        ragged = 130 + 8 * np.sin(37 * turn + index) + 5 * np.sin(91 * turn)
        outline = np.stack([x + ragged * np.cos(turn), y + ragged * np.sin(turn)], -1)
        cv2.fillPoly(frame, [outline.astype(np.int32)], 2)
        cv2.ellipse(frame, (x, y + 30), (80, 100), 0, 0, 360, 1, -1)
        yield torch.from_numpy(frame)


def soft(count: int) -> Iterator[Tensor]:
    """One region in 256 levels, its edge 30 pixels wide."""
    for labels in people(count):
        plane = np.where(labels.numpy() == 3, 255.0, 0.0).astype(np.float32)
        yield torch.from_numpy(cv2.GaussianBlur(plane, (0, 0), 7).round().astype(np.uint8))


def noise(count: int) -> Iterator[Tensor]:
    """Every level of grey, no two neighbours alike."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        yield torch.randint(256, (HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)


def measure(path: Path, frames: list[Tensor]) -> tuple[float, float, float]:
    """Frames a second written, read as labels and read as grey levels; checked to be exact."""
    began = time.process_time()
    with writing_labels(path, 16) as video:
        for frame in frames:
            video.add(frame)
    wrote = time.process_time()
    seen = 0
    for read in stream(path, "index"):
        seen += int(read[HEIGHT // 2, WIDTH // 2])
    labels = time.process_time()
    for read in stream(path, "grey"):
        seen += int(read[HEIGHT // 2, WIDTH // 2])
    greys = time.process_time()
    for read, frame in zip(stream(path, "index"), frames, strict=True):
        if not torch.equal(read, frame.int()):
            raise AssertionError("labels came back changed")
    count = len(frames)
    return count / (wrote - began), count / (labels - wrote), count / (greys - labels)


def main() -> None:
    """Measure and print."""
    cv2.setNumThreads(1)
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    title(f"{count} frames of {WIDTH} x {HEIGHT}, frames/s (target {TARGET:g})")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cases = {"labels": people(count), "soft": soft(count), "noise": noise(count // 5)}
        for name, frames in cases.items():
            path = Path(folder) / f"{name}.mkv"
            made = list(frames)
            speeds = measure(path, made)
            size = f"{path.stat().st_size / len(made) / 1024:.1f}"
            verdict = "met" if min(speeds) >= TARGET else "MISSED"
            rows.append((name, *(f"{speed:.0f}" for speed in speeds), size, verdict))
    table(("content", "write", "read labels", "read grey", "KiB a frame", "target"), rows)


if __name__ == "__main__":
    main()
