"""Memory of `frisket masks` over many clips: peak of the parent process at two counts.

    OMP_NUM_THREADS=1 python benchmarks/masks_memory.py 1000 10000

Small drawn pictures and the draft backend in worker processes; each count is a run of its own.
What grows with the clips is the list of their names and tasks.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

RUN = """
import resource, sys
from pathlib import Path
from frisket.recipes.masks.make import make_masks
from frisket.config.maskgen import MaskGeneration, MaskRequest
if __name__ == "__main__":
    result = make_masks(MaskRequest(folder=Path(sys.argv[1]), maskgen=MaskGeneration(workers=2)))
    print(dict(result.counts), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main(counts: list[int]) -> None:
    print("| clips | parent's peak, MiB | clips/s | outcome |\n|---|---|---|---|")
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            clips = Path(name) / "clips"
            clips.mkdir()
            rng = np.random.default_rng(0)
            for index in range(count):
                picture = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
                Image.fromarray(picture).save(clips / f"{index:05}.png")
            script = Path(name) / "run.py"
            script.write_text(RUN)
            began = time.perf_counter()
            ran = subprocess.run(
                [sys.executable, str(script), name], capture_output=True, text=True, check=True
            )
            spent = time.perf_counter() - began
            said, _, peak = ran.stdout.strip().splitlines()[-1].rpartition(" ")
            print(f"| {count} | {float(peak):.0f} | {count / spent:.0f} | {said} |")


if __name__ == "__main__":
    main([int(each) for each in sys.argv[1:]] or [1000, 10_000])
