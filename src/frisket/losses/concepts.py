"""Several concepts in one run: how much each of them teaches, and what makes them equal."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from frisket.losses.weighting import Weighting, weigh
from frisket.shapes import CellPlanes, RegionFlags


@dataclass(frozen=True, slots=True)
class ClipShare:
    """One clip of an epoch: its coverage k f h w, and how often and how hard it is drawn.

    `pulls` is repeats times the weight of its data set. `subsets` are the ways its regions are
    drawn (union sampling): a chance, and which regions it teaches; empty teaches all, always.
    """

    coverage: CellPlanes
    pulls: float
    subsets: tuple[tuple[float, RegionFlags], ...] = ()


def measure_concepts(weighting: Weighting, clips: Iterable[ClipShare]) -> dict[str, float]:
    """What an epoch's loss weighs of each concept: M_k = sum_i r_i sum_x a_ik(x) w_i(x) / D_i.

    w_i are the weights of clip i before any balance, a_ik the share of them that concept k brings,
    r_i how often and how hard the clip is drawn, D_i what its error is divided by (normalise =
    sample, none or area; with batch and global the same number for all clips, 1 here). Over the
    draws of regions the expectation. Feather by t, clean cells and cells that a term has to itself
    change from step to step and are left out. Sums in float64.
    """
    unbalanced = replace(weighting, soften=None, exclusive=(), balance=())
    pooled = weighting.normalise in ("batch", "global")
    masses = dict.fromkeys(weighting.concepts, 0.0)
    for clip in clips:
        coverage = clip.coverage[None].float()
        everything = torch.ones(1, coverage.shape[1], dtype=torch.bool)
        for chance, region_flags in clip.subsets or ((1.0, everything),):
            masked = torch.ones(1, dtype=torch.bool)
            weighed = weigh(unbalanced, coverage, masked, torch.ones(1), region_flags=region_flags)
            divisor = 1.0 if pooled else float(weighed.divisor.double())
            if not divisor:
                continue  # a clip of no weight at all teaches nothing
            for name, cells in weighed.concepts.items():
                masses[name] += clip.pulls * chance * float(cells.double().sum()) / divisor
    return masses


def balance_concepts(masses: Mapping[str, float]) -> dict[str, float]:
    """The factor of each concept: c_k = mean_j(M_j) / M_k, so that every c_k M_k is the same.

    Their sum, and with it the learning rate's meaning, stays what it was. ValueError for a concept
    of mass 0: no factor makes it teach.
    """
    absent = sorted(name for name, mass in masses.items() if not mass > 0)
    if absent:
        raise ValueError(
            f"losses.balance: {', '.join(absent)} teaches nothing in any clip (no mask covers it,"
            " or its weight is 0); take it out of [regions], or take its phrase out"
        )
    mean = sum(masses.values()) / len(masses) if masses else 0.0
    return {name: mean / mass for name, mass in masses.items()}
