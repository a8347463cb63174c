"""Adapters that act by noise level, word and place, in blocks that carry a part of the tokens."""

from math import prod

import pytest
import torch
from tests.contracts.routing.test_memory import (
    assert_equal,
    attach_stirred,
    draw_selection,
    find_token_grid,
    learn,
    route_all,
)
from torch import nn

from frisket.adapters.routed.factors import Factors
from frisket.adapters.routed.peft_variant import route
from frisket.adapters.routed.schedule import RankSchedule
from frisket.families.experts import experts_of, first
from frisket.families.passages import get_passage
from frisket.routing.router import Router
from frisket.routing.selection import TokenSelection, spread_tokens
from frisket.training.memory import plan as memory_plan
from frisket.training.memory.plan import MemoryPlan


def set_factors(case, factors: Factors, frames: int) -> None:
    """About half of the tokens and of the words, each sample its own; ranks by noise level."""
    generator = torch.Generator().manual_seed(3)

    def mark(*shape: int) -> torch.Tensor:
        return (torch.rand(shape, generator=generator) < 0.5).float()

    grid, patch = find_token_grid(case, frames), find_patch(case)
    factors.space = spread_tokens(mark(2, prod(grid)), grid, patch)
    texts = [tensor.shape[1] for tensor in case.conditioning.values() if tensor.ndim > 1]
    factors.tokens = mark(2, max(texts))
    factors.ranks = RankSchedule(1)


def find_patch(case) -> tuple[int, int, int]:
    return case.family.routes.find_patch(first(case.parts.denoiser))


def keep_all(case, frames: int) -> TokenSelection:
    grid = find_token_grid(case, frames)
    whole = torch.ones(2, 1, *case.card.grid.cells(frames, *case.size))
    tokens = torch.arange(prod(grid)).expand(2, -1)
    return TokenSelection(tokens, grid, whole, whole)


@pytest.fixture
def acting(case, denoiser) -> nn.Module:
    """With an adapter that has factors; skipped where a family cannot route."""
    if case.family.routes is None or not case.family.routes.list_blocks(first(denoiser)):
        pytest.skip("cannot route")
    attach_stirred(case, denoiser)
    set_factors(case, route(denoiser, case.family.streams), case.lengths[-1])
    return denoiser


@torch.no_grad()
def test_an_adapter_acts_where_it_did_when_all_tokens_are_kept(case, acting):
    frames = case.lengths[-1]
    plain = case.predict(acting, frames)
    with route_all(case, acting).carry(keep_all(case, frames)):
        assert torch.equal(case.predict(acting, frames), plain)


@torch.no_grad()
def test_a_row_that_is_kept_has_the_factor_it_has_among_all(case, acting):
    """Rows of which nothing of the update is left are the same ones, by every routed layer."""
    frames = case.lengths[-1]
    router, selection = route_all(case, acting), draw_selection(case, frames)
    whole, routed = (record_silent_rows(case, acting, router, each) for each in (None, selection))
    narrowed = 0
    for key, (silent, _) in whole.items():
        part, kept = routed[key]
        stream = case.family.streams.find(key[0])
        if part.shape[1] != silent.shape[1]:
            narrowed += 1
            silent = kept.take(silent, stream)  # noqa: PLW2901 - what stays of it
        assert torch.equal(part, silent), key
    assert narrowed
    assert any(0 < float(silent.float().mean()) < 1 for silent, _ in whole.values())


def record_silent_rows(case, denoiser: nn.Module, router: Router, selection) -> dict:
    """Of each layer and call: which rows the adapter left as they were, and the kept tokens."""
    silent, factors = {}, route(denoiser, case.family.streams)

    def observe(name, _, update):
        if case.family.streams.find(name) not in ("apart", "flat") and update.ndim == 3:
            call = sum(key[0] == name for key in silent)
            passages = [get_passage(model) for model in experts_of(denoiser).values()]
            kept = next((passage.kept_tokens for passage in passages if passage), None)
            silent[name, call] = update.abs().amax(-1) == 0, kept

    factors.observer = observe
    with router.carry(selection):
        case.predict(denoiser, case.lengths[-1])
    factors.observer = None
    return silent


def test_recomputed_blocks_act_on_the_same_rows(case, acting):
    router = route_all(case, acting)
    plain = learn(case, acting, router, 0, 1)
    memory_plan.apply(acting, MemoryPlan(checkpointing=True), device="cpu")
    assert_equal(learn(case, acting, router, 0, 1), plain)
