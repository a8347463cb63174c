"""Routing of every family that can, with what saves memory and time around its blocks."""

from copy import deepcopy
from math import prod

import jaxtyping
import pytest
import torch
from tests.contracts.conftest import Case
from tests.contracts.test_devices import Away, held, sent, two_devices
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.families.base import default_targets
from frisket.families.experts import experts_of, first
from frisket.families.quantise import quantise
from frisket.routing.router import Router
from frisket.routing.selection import TokenSelection
from frisket.training.memory import plan as memory_plan
from frisket.training.memory.plan import MemoryPlan
from frisket.training.memory.precision import compile_blocks

Gradients = dict[str, Tensor]


def find_token_grid(case: Case, frames: int) -> tuple[int, int, int]:
    cells = case.card.grid.cells(frames, *case.size)
    patch = case.family.routes.find_patch(first(case.parts.denoiser))
    f, h, w = (side // size for side, size in zip(cells, patch, strict=True))
    return f, h, w


def draw_selection(case: Case, frames: int, seed: int = 0, keep: int = 0) -> TokenSelection:
    """So many tokens, or half of them: of each sample its own, in order."""
    generator = torch.Generator().manual_seed(seed)
    grid = find_token_grid(case, frames)
    count = prod(grid)
    keep = keep or count // 2
    tokens = torch.stack(
        [torch.randperm(count, generator=generator)[:keep].sort().values for _ in range(2)]
    )
    whole = torch.ones(2, 1, *case.card.grid.cells(frames, *case.size))
    return TokenSelection(tokens, grid, whole, whole)


def route_all(case: Case, denoiser: nn.Module) -> Router:
    """From the first block to the last."""
    blocks = case.family.routes.list_blocks(first(denoiser))
    return Router(denoiser, case.family.routes, case.family.streams, 0, len(blocks))


def attach_stirred(case: Case, denoiser: nn.Module) -> None:
    """An adapter that does something."""
    targets, dead = default_targets(case.family, case.variant)
    lora.attach(denoiser, lora.LoraSpec(rank=2, alpha=2.0, targets=targets, dead=dead), seed=0)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in lora.trainable(denoiser).values():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))


def learn(case: Case, denoiser: nn.Module, router: Router, *seeds: int) -> Gradients:
    """The adapter's gradients of one backward pass over a routed prediction for each seed."""
    selections = [draw_selection(case, case.lengths[-1], seed) for seed in seeds]
    return learn_from(case, denoiser, router, selections)


def learn_from(
    case: Case, denoiser: nn.Module, router: Router, selections: list[TokenSelection | None]
) -> Gradients:
    """The same over a prediction for each selection."""
    denoiser.train()
    losses = []
    for selection in selections:
        with router.carry(selection):
            losses.append(case.predict(denoiser, case.lengths[-1]).square().mean())
    torch.stack(losses).sum().backward()
    gradients = {}
    for name, value in lora.trainable(denoiser).items():
        gradients[name] = torch.zeros_like(value) if value.grad is None else value.grad.clone()
        value.grad = None
    return gradients


def assert_equal(gradients: Gradients, plain: Gradients) -> None:
    assert any(bool(value.any()) for value in plain.values())
    for name, value in plain.items():
        torch.testing.assert_close(gradients[name], value, atol=1e-6, rtol=1e-4, msg=name)


def can_route(case: Case, denoiser: nn.Module) -> bool:
    routes = case.family.routes
    return routes is not None and bool(routes.list_blocks(first(denoiser)))


@pytest.fixture
def routed(case: Case, denoiser: nn.Module) -> nn.Module:
    """With an adapter; skipped where a family cannot route."""
    if not can_route(case, denoiser):
        pytest.skip("cannot route")
    attach_stirred(case, denoiser)
    return denoiser


@pytest.fixture
def unchecked():
    """Shapes unchecked, as they are outside of tests: dynamo cannot compile the check itself."""
    jaxtyping.config.update("jaxtyping_disable", value=True)
    yield
    jaxtyping.config.update("jaxtyping_disable", value=False)


def test_recomputed_and_swapped_blocks_carry_the_tokens_of_their_call(case, routed):
    router = route_all(case, routed)
    plain = learn(case, routed, router, 0, 1)
    memory_plan.apply(routed, MemoryPlan(checkpointing=True, swap_blocks=1), device="cpu")
    assert_equal(learn(case, routed, router, 0, 1), plain)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # dynamo warns of its own
def test_compiled_blocks_carry_the_same_tokens_and_stay_compiled(case, routed, unchecked):
    """Whatever their number: torch compiles for any, and not once more for each."""
    router, compiled = route_all(case, routed), []

    def count(graph, _):
        compiled.append(graph)
        return graph.forward

    frames = case.lengths[-1]
    draws = [None, *(draw_selection(case, frames, keep=keep) for keep in (3, 4, 2, 5))]
    plain = [learn_from(case, routed, router, [draw]) for draw in draws]
    torch._dynamo.reset()
    compile_blocks(routed, backend=count)
    counts = []
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for draw, gradients in zip(draws, plain, strict=True):
            assert_equal(learn_from(case, routed, router, [draw]), gradients)
            counts.append(len(compiled))
    assert counts[-1] == counts[2], counts


@pytest.mark.slow
def test_a_quantised_base_carries_the_same_tokens_swapped(case, routed):
    if not case.card.quantises:
        pytest.skip("cannot quantise")
    lora.detach(routed)
    for expert in experts_of(routed).values():
        quantise(expert, "nf4", dtype=torch.float32, device="cpu")
    attach_stirred(case, routed)
    router = route_all(case, routed)
    plain = learn(case, routed, router, 0)
    plan = MemoryPlan(quantise="nf4", checkpointing=True, swap_blocks=1)
    memory_plan.apply(routed, plan, device="cpu")
    assert_equal(learn(case, routed, router, 0), plain)


def test_tokens_may_lie_beside_a_denoiser_that_is_elsewhere(case):
    if not can_route(case, case.parts.denoiser):
        pytest.skip("cannot route")
    frames = case.lengths[-1]
    noisy, t, given = case.latents(frames), case.levels(), case.given(frames=frames)
    here, selection = deepcopy(case.parts.denoiser), draw_selection(case, frames)
    with torch.no_grad(), route_all(case, here).carry(selection):
        expected = case.family.predict(here, noisy, t, given)
    denoiser = sent(case.parts.denoiser)
    with two_devices(), route_all(case, denoiser).carry(selection):
        prediction = case.family.predict(denoiser, Away(noisy), t, given)
    assert isinstance(prediction, Away)
    torch.testing.assert_close(held(prediction), expected, rtol=1e-3, atol=1e-3)
