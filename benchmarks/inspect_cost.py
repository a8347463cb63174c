"""What `frisket inspect` costs: clips a second and memory, for a tenth of the clips and for all.

    python benchmarks/inspect_cost.py [clips] [workers]

Draws pictures of 512 x 512 (JPEG and PNG, grain on texture) with masks and captions into a scratch
folder and inspects them at 512 for SDXL in a fresh process. Wall clock counts here, for the work
is spread over processes: leave the machine alone meanwhile.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import psutil

SIDE, SHEETS = 512, 16


def write(folder: Path, clips: int) -> None:
    """Draw `clips` pictures that are all different."""
    rng = np.random.RandomState(0)
    for name in ("clips", "masks"):
        (folder / name).mkdir()
    sheets = [sheet(rng) for _ in range(SHEETS)]
    for index in range(clips):
        top, left = rng.randint(0, SIDE, 2)
        picture = sheets[index % SHEETS][top : top + SIDE, left : left + SIDE]
        picture = picture * rng.uniform(0.5, 1, 3) + rng.randint(-8, 9, picture.shape)
        mask = np.zeros((SIDE, SIDE), np.uint8)
        middle = tuple(int(v) for v in rng.randint(150, 360, 2))
        cv2.ellipse(mask, middle, tuple(map(int, rng.randint(50, 140, 2))), 0, 0, 360, 255, -1)
        picture = np.where(mask[..., None] > 0, picture * 0.5 + rng.randint(0, 127, 3), picture)
        suffix = ".png" if index % 4 == 0 else ".jpg"
        shown = picture.clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / "clips" / f"{index:05d}{suffix}"), shown)
        cv2.imwrite(str(folder / "masks" / f"{index:05d}.png"), mask)
        (folder / "clips" / f"{index:05d}.txt").write_text(f"sks thing number {index}, from a side")


def sheet(rng: np.random.RandomState) -> np.ndarray:
    total = np.zeros((2 * SIDE, 2 * SIDE, 3), np.float32)
    for octave in range(1, 8):
        cells = rng.rand(2**octave, 2**octave, 3).astype(np.float32)
        total += cv2.resize(cells, total.shape[1::-1], interpolation=cv2.INTER_CUBIC) * 0.7**octave
    return 255 * (total - total.min()) / (total.max() - total.min())


def once(folder: Path, workers: int) -> None:
    """Inspect a folder and print what it took (a process of its own)."""
    # Not at the top: the worker processes import this file, as they import the command line.
    from frisket.config.tree import Config  # noqa: PLC0415
    from frisket.families.base import FAMILIES  # noqa: PLC0415
    from frisket.recipes.inspect import inspect  # noqa: PLC0415

    data = {"clips": folder / "clips", "masks": folder / "masks", "trigger": "sks"}
    config = Config.model_validate(
        {
            "data": [{**data, "resolution": SIDE}],
            "model": {"family": "stable_diffusion", "variant": "sdxl", "device": "cpu"},
        }
    )
    FAMILIES.load(config.model.family)  # the import of diffusers is not what is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak = Watch()
    start = time.perf_counter()
    findings = inspect(config, folder / "out", workers=workers)
    seconds = time.perf_counter() - start
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = resource.getrusage(resource.RUSAGE_SELF)
    used = sum(each.ru_utime + each.ru_stime for each in (own, children))
    size = max(path.stat().st_size for path in (folder / "out").glob("*.html")) / 2**20
    largest = own.ru_maxrss / 1024
    print(json.dumps([seconds, used, before, largest, peak.stop(), len(findings), size]))


class Watch(threading.Thread):
    """The largest memory of one worker process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.ended = 0.0, threading.Event()
        self.start()

    def run(self) -> None:
        """Look twice a second."""
        me = psutil.Process()
        while not self.ended.wait(0.5):
            for child in me.children():
                try:
                    self.peak = max(self.peak, child.memory_info().rss / 2**20)
                except psutil.NoSuchProcess:
                    continue

    def stop(self) -> float:
        """Stop looking; the largest in MiB."""
        self.ended.set()
        return self.peak


def main(largest: int, workers: int) -> None:
    """Print both sizes."""
    for clips in (largest // 10, largest):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write(folder, clips)
            command = [sys.executable, __file__, "--once", str(folder), str(workers)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            said = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            seconds, used, before, peak, worker, found, size = json.loads(
                said.stdout.splitlines()[-1]
            )
            print(
                f"{clips} clips, {workers} workers: {seconds:.0f} s wall, {used:.0f} s of CPU"
                f" ({1000 * used / clips:.0f} ms a clip); main process {before:.0f} MiB before,"
                f" {peak:.0f} at most; a worker {worker:.0f} MiB; {found} findings, largest page"
                f" {size:.1f} MiB"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        once(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        given = [int(each) for each in sys.argv[1:]]
        main(given[0] if given else 2000, given[1] if len(given) > 1 else 2)
