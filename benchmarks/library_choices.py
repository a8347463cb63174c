"""What Frisket computes itself against libraries that do the same; see docs/libraries.md.

    pip install pycocotools scipy
    OMP_NUM_THREADS=1 python benchmarks/library_choices.py [rle crash intervals matching]

Neither is a dependency of Frisket; a part whose library is not installed is left out.
"""

import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from measure import table
from PIL import Image

from frisket.evaluation.bootstrap import estimate
from frisket.maskgen.base import Instance
from frisket.maskgen.cleanup import instances
from frisket.maskgen.formats.coco import counts_of, decode_counts, pack_counts, unpack_counts
from frisket.maskgen.tracking import matching, tracker

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"


def cost_of(call: Callable[[], Any], repeats: int = 7) -> float:
    """Median CPU time of a call, ms."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return statistics.median(times) * 1e3


def masks() -> Iterator[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    for path in sorted((PHOTOS / "masks").glob("*.png")):
        yield path.stem, np.asarray(Image.open(path).convert("L")) >= 128
    ellipse = np.zeros((1024, 1024), np.uint8)
    cv2.ellipse(ellipse, (500, 500), (300, 400), 20, 0, 360, 1, -1)
    yield "ellipse", ellipse > 0
    hair = ellipse.copy()
    for _ in range(3000):
        (x, y), (right, down) = rng.integers(100, 900, 2), rng.integers(-60, 60, 2)
        cv2.line(hair, (int(x), int(y)), (int(x + right), int(y + down)), int(rng.integers(2)), 1)
    yield "hair", hair > 0
    yield "noise", rng.random((1024, 1024)) < 0.5
    yield "4K ellipse", cv2.resize(ellipse, (3840, 2160), interpolation=cv2.INTER_NEAREST) > 0


def rle() -> None:
    """Milliseconds to encode and to decode, ours and pycocotools."""
    library = import_module("pycocotools.mask")
    rows = []
    for name, bits in masks():
        height, width = bits.shape
        text = pack_counts(counts_of(bits))
        whole = {"size": [height, width], "counts": text}

        def encode(bits: np.ndarray = bits) -> Any:
            return library.encode(np.asfortranarray(bits.astype(np.uint8)))

        same = encode()["counts"].decode() == text and (library.decode(whole) > 0).tolist()
        costs = (
            cost_of(lambda bits=bits: pack_counts(counts_of(bits))),
            cost_of(encode),
            cost_of(lambda t=text, h=height, w=width: decode_counts(unpack_counts(t), h, w)),
            cost_of(lambda whole=whole: library.decode(whole).astype(bool)),
        )
        equal = "yes" if same == bits.tolist() else "no"
        rows.append([name, str(len(counts_of(bits))), equal, *(f"{it:.2f}" for it in costs)])
    table(["mask", "runs", "same", "encode", "library", "decode", "library"], rows)


CRASH = """
import sys, numpy as np, pycocotools.mask as m
rng = np.random.default_rng(int(sys.argv[1]))
for k in range(300):
    h, w = (int(n) for n in rng.integers(1, 64, 2))
    bits = np.asfortranarray((rng.random((h, w)) < 0.5).astype(np.uint8))
    text = bytearray(m.encode(bits)["counts"])
    for place in rng.integers(0, len(text), 3):
        text[place] = int(rng.integers(48, 112))
    try:
        m.decode({"size": [h, w], "counts": bytes(text)[: int(rng.integers(1, len(text) + 1))]})
    except ValueError:
        pass
"""


def crash() -> None:
    """How processes end that decode 300 damaged run lengths each."""
    ends = Counter(
        subprocess.run(
            [sys.executable, "-c", CRASH, str(seed)], capture_output=True, check=False, timeout=60
        ).returncode
        for seed in range(60)
    )
    table(["exit status", "processes"], [[str(k), str(n)] for k, n in ends.most_common()])


def intervals() -> None:
    """How often a 95 % interval holds the true mean, 400 samples a row, and its width."""
    stats = import_module("scipy.stats")
    rng = np.random.default_rng(1)
    kinds: dict[str, tuple[Callable[[int], np.ndarray], float]] = {
        "normal": (lambda n: rng.normal(1, 1, n), 1.0),
        "lognormal": (lambda n: rng.lognormal(0, 0.8, n), float(np.exp(0.32))),
    }
    rows = []
    for kind, (draw, mean) in kinds.items():
        for count in (5, 8, 12, 24):
            hits: Counter[str] = Counter()
            widths: Counter[str] = Counter()
            for _ in range(400):
                values = draw(count)
                ours = estimate(values.tolist())
                assert ours.low is not None
                assert ours.high is not None
                ends = {"ours": (ours.low, ours.high)}
                for way in ("percentile", "BCa"):
                    ends[way] = stats.bootstrap(
                        (values,), np.mean, n_resamples=10_000, method=way, rng=0
                    ).confidence_interval
                for way, (low, high) in ends.items():
                    hits[way] += low <= mean <= high
                    widths[way] += high - low
            cells = [f"{hits[way] / 4:.1f} % ({widths[way] / 400:.2f})" for way in hits]
            rows.append([kind, str(count), *cells])
    table(["values", "n", "ours", "scipy percentile", "scipy BCa"], rows)


def best_first(scores: dict[tuple[int, int], float], least: float) -> dict[int, int]:
    """What stood in maskgen.matching before."""
    pairs: dict[int, int] = {}
    for (index, number), score in sorted(scores.items(), key=lambda it: (-it[1], it[0])):
        if score >= least and index not in pairs and number not in pairs.values():
            pairs[index] = number
    return pairs


def by_scipy(scores: dict[tuple[int, int], float], least: float) -> dict[int, int]:
    linear_sum_assignment = import_module("scipy.optimize").linear_sum_assignment
    usable = {pair: score for pair, score in scores.items() if score >= least}
    rows, columns = sorted({a for a, _ in usable}), sorted({b for _, b in usable})
    matrix = np.full((len(rows), len(columns)), -1e3)
    for (a, b), score in usable.items():
        matrix[rows.index(a), columns.index(b)] = score
    pairs = zip(*linear_sum_assignment(matrix, maximize=True), strict=True)
    return {rows[a]: columns[b] for a, b in pairs if matrix[a, b] >= least}


def switches(seed: int, match: float) -> int:
    """Masks of six discs that cross, 24 frames, that change their number."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:96, :96]
    places, speeds = rng.uniform(20, 76, (6, 2)), rng.uniform(-3, 3, (6, 2))
    radii = rng.uniform(8, 14, 6)
    frames: list[list[tuple[int, Instance]]] = []
    for _ in range(24):
        shaken = places + rng.normal(0, 1.2, (6, 2))
        sizes = radii + rng.normal(0, 0.7, 6)
        frames.append(
            [
                (disc, Instance("body", torch.from_numpy(plane.astype(np.float32)), rng.random()))
                for disc in rng.permutation(6).tolist()
                if rng.random() > 0.05
                for plane in [
                    (x - shaken[disc, 0]) ** 2 + (y - shaken[disc, 1]) ** 2 < sizes[disc] ** 2
                ]
            ]
        )
        places += speeds
        speeds[(places < 10) | (places > 86)] *= -1
    names = {id(it.mask): disc for frame in frames for disc, it in frame}
    finds = iter(frames)
    last: dict[int, int] = {}
    changed = 0
    pictures = [torch.zeros(96, 96, 3, dtype=torch.uint8)] * len(frames)
    how = tracker.Tracking(match=match, cut=1.1)
    for tracked in tracker.link(pictures, lambda _: [it for _, it in next(finds)], how):
        for it in tracked:
            disc = names[id(it.instance.mask)]
            changed += last.get(disc, it.number) != it.number
            last[disc] = it.number
    return changed


def crowd(seed: int) -> list[Instance]:
    """Bodies and faces of two to six people before one another, body and face in turn."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:160, :240]
    bodies, faces = [], []
    for _ in range(int(rng.integers(2, 7))):
        middle, top = rng.uniform(30, 210), rng.uniform(30, 70)
        wide, high = rng.uniform(14, 26), rng.uniform(50, 80)
        body = ((x - middle) / wide) ** 2 + ((y - top - high) / high) ** 2 < 1
        left, over = middle + rng.uniform(-14, 14), top + rng.uniform(-10, 6)
        face = (x - left) ** 2 + (y - over) ** 2 < rng.uniform(8, 12) ** 2
        bodies.append(body | face if rng.random() < 0.6 else body)
        faces.append(face)
    for back, front in combinations(range(len(bodies)), 2):
        hidden = bodies[front] | faces[front]
        bodies[back], faces[back] = bodies[back] & ~hidden, faces[back] & ~hidden
    return [
        Instance(region, torch.from_numpy(plane.astype(np.float32)))
        for body, face in zip(bodies, faces, strict=True)
        if body.sum() > 200 and face.sum() > 60
        for region, plane in (("body", body), ("face", face))
    ]


def together(found: Sequence[Instance]) -> int:
    people = [set(it.members) for it in instances.group_persons(found)]
    return sum(any({at, at + 1} <= it for it in people) for at in range(0, len(found), 2))


def match() -> None:
    """Changed numbers of 60 clips, faces with their own body in 300 drawings, time of 12 x 12."""
    crowds = [crowd(seed) for seed in range(300)]
    faces = sum(len(it) // 2 for it in crowds)
    dense = {(a, b): 0.5 + ((7 * a + 3 * b) % 11) / 22 for a in range(12) for b in range(12)}
    rows = []
    ways: dict[str, Any] = {"best first": best_first, "frisket": matching.assign}
    if find_spec("scipy"):
        ways["scipy"] = by_scipy
    for name, assign in ways.items():
        vars(tracker)["assign"] = vars(instances)["assign"] = assign
        cells = [str(sum(switches(seed, least) for seed in range(60))) for least in (0.5, 0.3)]
        right = sum(map(together, crowds))
        rows.append(
            [name, *cells, f"{right} of {faces}", f"{cost_of(lambda a=assign: a(dense, 0.5)):.2f}"]
        )
    table(["", "changed, match 0.5", "match 0.3", "faces", "ms, 12 x 12"], rows)


PARTS = {
    "rle": ("pycocotools", rle),
    "crash": ("pycocotools", crash),
    "intervals": ("scipy", intervals),
    "matching": ("networkx", match),
}


def main() -> None:
    for name in sys.argv[1:] or PARTS:
        package, part = PARTS[name]
        if find_spec(package) is None:
            print(f"\n{name}: {package} is not installed")
            continue
        print(f"\n{name}: {(part.__doc__ or '').splitlines()[0]}\n")
        part()


if __name__ == "__main__":
    main()
