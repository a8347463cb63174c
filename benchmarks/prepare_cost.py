"""What an unchanged `prepare` costs: clips a second of process CPU time, and memory over clips.

    OMP_NUM_THREADS=1 python benchmarks/prepare_cost.py [clips]

Writes tiny pictures with masks and captions to a scratch folder, prepares them once, waits until
the files are old enough to be trusted by their time stamps, and prepares again in fresh processes.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.runs.prepare import prepare

SETTLE = 2.5  # seconds; younger files are hashed again, whatever their time stamp says
ROUNDS = 5


def write(folder: Path, clips: int) -> None:
    """Draw `clips` pictures of 32 x 32 with masks and a caption of their own."""
    rng = np.random.RandomState(0)
    for name in ("clips", "masks"):
        (folder / name).mkdir()
    for index in range(clips):
        picture = rng.randint(0, 256, (32, 32, 3)).astype(np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        mask[8:24, 8 : 9 + index % 20] = 255
        Image.fromarray(picture).save(folder / "clips" / f"{index:05d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{index:05d}.png")
        (folder / "clips" / f"{index:05d}.txt").write_text(f"a thing number {index}")


def once(folder: Path) -> None:
    """Prepare a folder and print seconds of CPU, clips and peak memory (a process of its own)."""
    config = Config.model_validate(
        {
            "data": [{"clips": folder / "clips", "masks": folder / "masks"}],
            "run": {"cache": folder / "cache"},
            "model": {"device": "cpu"},
        }
    )
    FAMILIES.load(config.model.family)  # the import of diffusers is not what is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    done = prepare(config)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    made = done.report.encoded + done.report.covered + done.report.embedded
    print(json.dumps([seconds, done.report.clips, before / 1024, peak / 1024, made]))


def measured(folder: Path) -> tuple[float, int, float, float, int]:
    """`once` in a fresh process."""
    command = [sys.executable, __file__, "--once", str(folder)]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, clips, before, peak, made = json.loads(said.stdout.splitlines()[-1])
    return seconds, clips, before, peak, made


def main(largest: int) -> None:
    """Print both numbers for a tenth of the clips and for all."""
    for clips in (largest // 10, largest):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write(folder, clips)
            first = measured(folder)
            time.sleep(SETTLE)
            measured(folder)  # the look that may be remembered
            again = [measured(folder) for _ in range(ROUNDS)]
            if any(made for *_, made in again):
                raise RuntimeError("an unchanged prepare made something")
            seconds = statistics.median(one[0] for one in again)
            grown = statistics.median(one[3] - one[2] for one in again)
            print(
                f"{clips} clips: first {clips / first[0]:.0f} clips/s, peak {first[3]:.0f} MiB"
                f" (+{first[3] - first[2]:.1f}); unchanged {clips / seconds:.0f} clips/s,"
                f" peak +{grown:.1f} MiB"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        once(Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 2000)
