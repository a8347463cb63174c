"""How much each concept of a run teaches, and the factors that make them equal."""

import logging
from collections.abc import Iterator
from dataclasses import replace

import torch

from frisket.config.regions import weights_of
from frisket.config.tree import Config
from frisket.data.captions import weigh_subsets
from frisket.data.mask_pipeline import arrange
from frisket.data.records import Item, Prepared
from frisket.data.schedule import Schedule
from frisket.losses.concepts import ClipShare, balance_concepts, measure_concepts
from frisket.losses.weighting import Weighting
from frisket.shapes import RegionFlags
from frisket.training.plan import Plan

log = logging.getLogger(__name__)


def add_concepts(config: Config, plan: Plan, prepared: Prepared, schedule: Schedule) -> Plan:
    """The plan with its regions: logged apart, and those with a phrase balanced where asked for.

    ValueError for a concept that teaches nothing in any clip.
    """
    planes = {name: number for number, name in enumerate(prepared.regions)}
    weights = config.region_weights
    concepts = {name: planes[name] for name in config.phrases if weights[name] > 0}
    logged = {name: number for name, number in planes.items() if weights[name] > 0}
    if len(logged) == 1:
        logged = concepts  # one region without a phrase: what is inside is its own
    plan = replace(plan, phrases=tuple(planes[name] for name in config.phrases), concepts=logged)
    if config.losses.balance == "none":
        return plan
    weighting = Weighting(
        table=weights_of(config),
        channels=1,  # divides all alike
        normalise=plan.normalise,
        beta=plan.beta,
        raw_beta=plan.raw_beta,
        concepts=concepts,
    )
    shares = list_shares(prepared, schedule, plan.accumulate)
    factors = balance_concepts(measure_concepts(weighting, shares))
    listed = ", ".join(f"{name} {factor:.3g}" for name, factor in factors.items())
    log.info("losses.balance: so that concepts teach alike, their loss is multiplied by %s", listed)
    return replace(plan, balance=tuple(factors.get(name, 1.0) for name in prepared.regions))


def list_shares(prepared: Prepared, schedule: Schedule, accumulate: int = 1) -> Iterator[ClipShare]:
    """Every training clip whose mask weighs its loss, with how often and how hard it is drawn."""
    harder = schedule.factors(accumulate)
    for number, item in enumerate(prepared.items):
        if item.coverage is None or not item.weighs:
            continue
        entry = prepared.cache.load("coverage", item.coverage)
        names = entry.notes["regions"].split("\n")
        yield ClipShare(
            coverage=arrange(entry.tensors["planes"], names, prepared.regions),
            pulls=item.repeats * item.weight * harder.get(number, 1.0),
            subsets=_list_draws(item, prepared.regions),
        )


def _list_draws(item: Item, regions: tuple[str, ...]) -> tuple[tuple[float, RegionFlags], ...]:
    chances = weigh_subsets([len(subset.kept) for subset in item.subsets])
    return tuple(
        (chance, torch.tensor([[name not in subset.left for name in regions]]))
        for chance, subset in zip(chances, item.subsets, strict=True)
    )
