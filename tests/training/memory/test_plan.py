"""The switches together, in the one order that works, and the refusals before any work."""

import sys

import pytest
import torch
from tests.training.memory.test_offload import built, draw, equal, step

from frisket.adapters import lora
from frisket.families.base import FAMILIES
from frisket.families.blocks import blocks_of
from frisket.families.experts import Experts
from frisket.families.quantise import PackageMissing, quantise
from frisket.training.memory import plan as memory_plan
from frisket.training.memory import precision
from frisket.training.memory.plan import CannotFit, MemoryPlan


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (MemoryPlan(storage="float8"), "saves nothing without gradient checkpointing"),
        (MemoryPlan(quantise="int8"), "saves nothing without gradient checkpointing"),
        (MemoryPlan(quantise="nf4", storage="float8", checkpointing=True), "hold the same weights"),
        (MemoryPlan(compile=True, swap_blocks=1), "do not go together"),
        (MemoryPlan(compile=True, storage="float8", checkpointing=True), "do not go together"),
        (MemoryPlan(attention="sage"), "no gradient"),
    ],
)
def test_switches_that_exclude_each_other(plan, said):
    with pytest.raises(CannotFit, match=said):
        memory_plan.check(plan)


def test_adapters_that_do_not_go_on_packed_weights():
    with pytest.raises(CannotFit, match=r'does not go with lora\.kind = "lokr"'):
        memory_plan.check(MemoryPlan(quantise="nf4"), adapter="lokr")
    memory_plan.check(MemoryPlan(quantise="nf4"), adapter="dora")


def test_a_missing_package_is_named_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchao", None)
    with pytest.raises(PackageMissing, match="pip install torchao"):
        memory_plan.check(MemoryPlan(quantise="fp8", checkpointing=True))


@pytest.mark.parametrize("backend", ["flash", "_flash_3", "flash_hub", "xformers"])
def test_an_attention_package_that_is_not_here_is_named_before_any_work(backend):
    try:
        precision.check_attention(backend)
    except ValueError:
        with pytest.raises(CannotFit, match=f'"{backend}" cannot be used here.*install|build'):
            memory_plan.check(MemoryPlan(attention=backend))


def test_an_attention_kernel_without_float32_is_refused_before_the_model_moves():
    _, denoiser, *_ = built()
    with pytest.raises(CannotFit, match=r'set model\.dtype = "bfloat16"'):
        memory_plan.apply(denoiser, MemoryPlan(attention="_native_flash"), device="cuda")
    memory_plan.apply(denoiser, MemoryPlan(attention="_native_efficient"), device="cpu")


def test_a_family_that_does_not_quantise_is_not_taken_for_one_that_does():
    _, denoiser, *_ = built(family="pocket")
    with pytest.raises(CannotFit, match='was loaded as "none"'):
        memory_plan.apply(denoiser, MemoryPlan(quantise="nf4"), device="cpu")


def test_nothing_asked_nothing_changed():
    shelf, denoiser, *given = built()
    plain = step(shelf, denoiser, *given)
    assert memory_plan.apply(denoiser, MemoryPlan(), device="cpu") == []
    assert equal(step(shelf, denoiser, *given), plain)


def test_checkpointing_and_swap_together():
    shelf, denoiser, *given = built()
    plain = step(shelf, denoiser, *given)
    (swap,) = memory_plan.apply(
        denoiser, MemoryPlan(checkpointing=True, swap_blocks=2), device="cpu"
    )
    assert denoiser.is_gradient_checkpointing
    assert equal(step(shelf, denoiser, *given), plain)
    assert 0 < swap.peak < sum(group.nbytes for group in swap.groups.values())


def test_float8_storage_swaps():
    shelf, denoiser, *given = built()
    memory_plan.apply(denoiser, MemoryPlan(storage="float8", checkpointing=True), device="cpu")
    plain = step(shelf, denoiser, *given)
    shelf, denoiser, *given = built()
    plan = MemoryPlan(storage="float8", checkpointing=True, swap_blocks=2)
    memory_plan.apply(denoiser, plan, device="cpu")
    assert equal(step(shelf, denoiser, *given), plain)
    assert equal(step(shelf, denoiser, *given), plain)


def test_a_quantised_base_learns_the_same_swapped():
    def learned(plan: MemoryPlan) -> list[torch.Tensor]:
        shelf, denoiser, *given = built()
        lora.detach(denoiser)
        quantise(denoiser, "nf4", dtype=torch.float32, device="cpu")
        lora.attach(denoiser, lora.LoraSpec(rank=4, targets=shelf.lora_targets), seed=0)
        memory_plan.apply(denoiser, plan, device="cpu")
        optimizer = torch.optim.SGD(lora.trainable(denoiser).values(), lr=1e-2)
        for _ in range(3):
            prediction = shelf.predict(denoiser, given[0], torch.tensor([0.3, 0.8]), given[1])
            prediction.square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return [value.detach() for value in lora.trainable(denoiser).values()]

    plain = learned(MemoryPlan(quantise="nf4"))
    fitted = learned(MemoryPlan(quantise="nf4", checkpointing=True, swap_blocks=2))
    assert all(map(torch.equal, fitted, plain))


@pytest.fixture
def experts():
    """Two of them, with inputs for each."""
    shelf = FAMILIES.load("wan")
    variant = next(iter(shelf.variants))
    first, second = shelf.tiny(variant), shelf.tiny(variant)
    for value in second.denoiser.parameters():
        value.data += 0.02
    both = Experts(
        {"high": first.denoiser, "low": second.denoiser}, {"high": (0.5, 1.0), "low": (0.0, 0.5)}
    )
    for expert in both.experts.values():
        spec = lora.LoraSpec(rank=4, targets=shelf.lora_targets)
        lora.attach(expert, spec, seed=0)
    return shelf, both.train(), draw(1, 16, 1, 8, 8), shelf.embed(first.text, ["a"])


def test_of_two_experts_only_the_one_in_use_is_there(experts):
    shelf, both, noisy, given = experts

    def run(t: float):
        prediction = shelf.predict(both, noisy, torch.tensor([t]), given)
        prediction.square().mean().backward()
        return prediction.detach()

    plain = {t: run(t) for t in (0.8, 0.2)}
    both.zero_grad()
    high, low = memory_plan.apply(both, MemoryPlan(swap_blocks=1), device="cpu")

    def there(expert) -> set[bool]:
        kept = blocks_of(expert)["blocks.0"]
        frozen = [value for value in kept.parameters() if not value.requires_grad]
        return {value.untyped_storage().nbytes() > 0 for value in frozen}

    for t, inside, outside in ((0.8, "high", "low"), (0.2, "low", "high"), (0.8, "high", "low")):
        assert torch.equal(run(t), plain[t])
        assert there(both.experts[inside]) == {True}
        assert there(both.experts[outside]) == {False}
    assert high.inside == low.inside == 0
    with torch.no_grad():  # nothing says that sampling is over; the next expert clears up after it
        for t in (0.8, 0.2):
            shelf.predict(both, noisy, torch.tensor([t]), given)
    assert high.inside == 0
    assert low.inside > 0


def test_moving_swapped_experts_moves_nothing(experts, monkeypatch):
    # Accelerate calls `.to(device)` on what it prepares for several GPUs.
    _, both, *_ = experts
    memory_plan.apply(both, MemoryPlan(swap_blocks=1), device="cpu")
    monkeypatch.setattr("frisket.families.experts._move", lambda *_: pytest.fail("moved"))
    both.to("cpu")
    both.use("high")
    assert both.device is None


def test_a_model_that_is_to_wait_is_not_loaded_onto_the_card():
    assert memory_plan.load_device(MemoryPlan(), "cuda:1") == "cuda:1"
    assert memory_plan.load_device(MemoryPlan(swap_blocks=3), "cuda:1") == "cpu"
