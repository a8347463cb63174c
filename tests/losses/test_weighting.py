"""However cells are weighed and pooled, a step is sums of numerators over sums of divisors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from frisket.grid import LatentGrid
from frisket.losses.base import Normalise, Step
from frisket.losses.terms.denoise import Denoise
from frisket.losses.terms.prior import Prior
from frisket.losses.weighting import Weighed, Weighting, list_exclusive, pool, weigh
from frisket.masks.morphology import feather_cells
from frisket.masks.weights import RegionWeights

Array = NDArray[np.float64]
GRID = LatentGrid(channels=3, spatial=8, patch=1)
PROGRESS = 0.4  # of the run: past the exclusive term's warm-up
# A pool is what is summed before it is divided.
POOLS = {"sample": "clip", "none": "clip", "area": "clip", "batch": "micro", "global": "step"}


@dataclass(frozen=True)
class Options:
    """How a run weighs its cells."""

    normalise: Normalise
    feather: float  # pixels at t = 1
    exclusive: bool
    clean: bool
    gamma: float
    floor: float
    lift: Literal["clamp", "affine"]
    threshold: float | None

    @property
    def table(self) -> RegionWeights:
        return RegionWeights(
            regions={"face": 1.5, "body": 0.4},
            background=0.1,
            gamma=self.gamma,
            floor=self.floor,
            lift=self.lift,
            threshold=self.threshold,
        )

    @property
    def prior(self) -> Prior:
        return Prior(threshold=0.3, alone=True, t_min=0.25, warmup=0.2)

    @property
    def weighting(self) -> Weighting:
        def soften(coverage: Tensor, t: Tensor) -> Tensor:
            return feather_cells(coverage, self.feather * t, GRID)

        return Weighting(
            table=self.table,
            channels=GRID.channels,
            normalise=self.normalise,
            soften=soften if self.feather else None,
            exclusive=(self.prior,) if self.exclusive else (),
        )


@dataclass(frozen=True)
class Micro:
    """One micro-batch, drawn."""

    coverage: Array  # b k f h w
    masked: NDArray[np.bool_]
    t: Array
    clean: Array | None
    prediction: Array
    target: Array


OPTIONS = st.builds(
    Options,
    normalise=st.sampled_from(sorted(POOLS)),
    feather=st.sampled_from([0.0, 13.0]),
    exclusive=st.booleans(),
    clean=st.booleans(),
    gamma=st.sampled_from([1.0, 0.5, 2.0]),
    floor=st.sampled_from([0.0, 0.05]),
    lift=st.sampled_from(["clamp", "affine"]),
    threshold=st.sampled_from([None, 0.31]),
)
# Clips of each micro-batch, for each rank.
STEPS = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=3)


def draw_micro(rng: np.random.RandomState, clips: int, *, clean: bool) -> Micro:
    """A micro-batch on a grid of its own, some of its clips unmasked, black, or drawn unmasked."""
    cells = (rng.randint(1, 3), rng.randint(2, 5), rng.randint(2, 6))
    coverage = rng.uniform(0, 0.8, (clips, 2, *cells)).astype(np.float32).astype(np.float64)
    coverage *= rng.uniform(size=(clips, 1, 1, 1, 1)) > 0.2
    handed_over = np.zeros((clips, 1, *cells))
    handed_over[:, :, 0] = rng.uniform(size=(clips, 1, 1, 1)) > 0.5
    return Micro(
        coverage=coverage,
        masked=rng.uniform(size=clips) > 0.3,
        t=rng.uniform(0.05, 1, clips).astype(np.float32).astype(np.float64),
        clean=handed_over if clean else None,
        prediction=rng.standard_normal((clips, GRID.channels, *cells)).astype(np.float32),
        target=rng.standard_normal((clips, GRID.channels, *cells)).astype(np.float32),
    )


def single(values: Any) -> Tensor:
    return torch.tensor(np.asarray(values, np.float32))


# ------------------------------------------------------------- the same in float64, clip by clip


def feather_plane(plane: Array, radius: float) -> Array:
    """A plane h w blurred by rows and columns, its border repeated."""
    reach = math.ceil(radius)
    offsets = np.arange(-reach, reach + 1)
    taps = np.exp(-0.5 * (offsets / max(radius / 2, 1e-6)) ** 2) * (np.abs(offsets) < radius + 1)
    taps /= taps.sum()
    for axis in (0, 1):
        wide = np.pad(plane, [(reach, reach) if axis == a else (0, 0) for a in (0, 1)], "edge")
        length = plane.shape[axis]
        shifted = [np.take(wide, np.arange(length) + place, axis) for place in range(len(taps))]
        plane = sum(tap * part for tap, part in zip(taps, shifted, strict=True))
    return plane


def weigh_clip(options: Options, micro: Micro, clip: int) -> Array:
    """What each cell of a clip weighs after everything, f h w."""
    t, hard = micro.t[clip], micro.coverage[clip]
    soft = hard.copy()
    radius = options.feather * t / GRID.spatial
    if options.feather:
        for region, frame in np.ndindex(*hard.shape[:2]):
            soft[region, frame] = feather_plane(hard[region, frame], radius)
    weights = bend(options, lay_out(soft)) if micro.masked[clip] else np.ones(hard.shape[1:])
    if micro.clean is not None:
        weights = weights * (1 - micro.clean[clip, 0])
    if options.exclusive and t >= options.prior.t_min:
        raw = lay_out(hard) if micro.masked[clip] else np.ones(hard.shape[1:])
        weights = weights * (raw >= options.prior.threshold)
    return weights


def lay_out(coverage: Array) -> Array:
    total = coverage.sum(0)
    shares = coverage / np.maximum(total, 1)
    return 1.5 * shares[0] + 0.4 * shares[1] + 0.1 * np.maximum(1 - total, 0)


def bend(options: Options, weights: Array) -> Array:
    if options.threshold is not None:
        weights = (weights > options.threshold).astype(np.float64)
    curved = weights**options.gamma
    if options.lift == "affine":
        return options.floor + (1 - options.floor) * curved
    return np.maximum(curved, options.floor)


def expect_loss(options: Options, ranks: Sequence[Sequence[Micro]]) -> float:
    """Each pool's sum of numerators over its sum of divisors, by the share of clips it holds."""
    pools: dict[Any, list[tuple[float, float]]] = {}
    for rank, micros in enumerate(ranks):
        for number, micro in enumerate(micros):
            for clip in range(len(micro.t)):
                weights = weigh_clip(options, micro, clip)
                error = (micro.prediction[clip].astype(np.float64) - micro.target[clip]) ** 2
                numerator = float((weights * error).sum())
                taught, cells = float(weights.sum()), weights.size
                divisor = GRID.channels * taught
                if options.normalise == "none":
                    divisor = float(GRID.channels * cells)
                elif options.normalise == "area":
                    divisor = GRID.channels * taught**0.5 * cells**0.5
                keys = {"clip": (rank, number, clip), "micro": (rank, number), "step": ()}
                key = keys[POOLS[options.normalise]]
                pools.setdefault(key, []).append((numerator, divisor))
    total = 0.0
    for pairs in pools.values():
        numerator, divisor = map(sum, zip(*pairs, strict=True))
        total += len(pairs) * (numerator / divisor if divisor else 0.0)
    return total / sum(map(len, pools.values()))


# ------------------------------------------------------------------------------- the code's own


def run_step(options: Options, ranks: Sequence[Sequence[Micro]]) -> float:
    """The loss of a step as the trainers of all ranks add it up."""
    weighting = options.weighting
    groups = [[weigh_micro(weighting, micro) for micro in micros] for micros in ranks]
    vectors: list[Tensor] = []
    for group in groups:
        pool(weighting, group, lambda vector: vectors.append(vector) or vector)  # type: ignore[func-returns-value]
    everywhere = torch.stack(vectors).sum(0)
    loss = 0.0
    for micros, group in zip(ranks, groups, strict=True):
        pooled, shares = pool(weighting, group, lambda _: everywhere)
        for micro, weighed, share in zip(micros, pooled, shares, strict=True):
            step = Step(
                prediction=single(micro.prediction),
                target=single(micro.target),
                t=single(micro.t),
                weights=weighed.weights,
                coverage=single(micro.coverage),
                divisor=weighed.divisor,
            )
            loss += share * float(Denoise()(step).mean())
    return loss


def weigh_micro(weighting: Weighting, micro: Micro) -> Weighed:
    return weigh(
        weighting,
        single(micro.coverage),
        torch.from_numpy(micro.masked),
        single(micro.t),
        clean=None if micro.clean is None else single(micro.clean),
        progress=PROGRESS,
    )


@settings(max_examples=24)
@given(options=OPTIONS, step=STEPS, seed=st.integers(0, 10_000))
def test_a_step_is_the_numerators_of_its_pools_over_their_divisors(
    options: Options, step: list[list[int]], seed: int
) -> None:
    rng = np.random.RandomState(seed)
    ranks = [[draw_micro(rng, clips, clean=options.clean) for clips in rank] for rank in step]
    assert run_step(options, ranks) == pytest.approx(
        expect_loss(options, ranks), rel=3e-5, abs=1e-6
    )


def test_a_term_written_for_the_earlier_names_is_refused():
    class Earlier:
        alone = True

        def claim(self, raw: Tensor, t: Tensor, progress: float) -> Tensor:
            return raw

    with pytest.raises(TypeError, match="exclusive_mask"):
        list_exclusive([Denoise(), Earlier()])
    assert list_exclusive([Denoise()]) == ()
