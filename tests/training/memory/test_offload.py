"""Block swap: the same gradients bit for bit, and weights that are really away."""

import pytest
import torch
from torch import nn

from frisket.adapters import lora
from frisket.families.base import FAMILIES
from frisket.families.blocks import blocks_of
from frisket.families.quantise import quantise
from frisket.training.memory.offload import Group, swap
from frisket.training.memory.precision import checkpoint_blocks

CPU = torch.device("cpu")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(kind: str = "lora", *, family: str = "wan", checkpointing: bool = False):
    """A tiny denoiser with an adapter that is not at its starting point, and its inputs."""
    shelf = FAMILIES.load(family)
    variant = next(iter(shelf.variants))
    parts = shelf.tiny(variant)
    spec = lora.LoraSpec(kind=kind, rank=4, targets=shelf.lora_targets, dead=shelf.lora_dead)
    lora.attach(parts.denoiser, spec, seed=0)
    for index, value in enumerate(lora.trainable(parts.denoiser).values()):
        value.data += 0.05 * draw(*value.shape, seed=index)
    if checkpointing:
        checkpoint_blocks(parts.denoiser)
    grid = shelf.variants[variant].grid
    noisy = draw(2, grid.channels, 1, 8, 8)
    return shelf, parts.denoiser.train(), noisy, shelf.embed(parts.text, ["a", "b"])


def step(shelf, denoiser, noisy, given) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Prediction and gradients of one step."""
    prediction = shelf.predict(denoiser, noisy, torch.tensor([0.3, 0.8]), given)
    prediction.square().mean().backward()
    gradients = [value.grad.clone() for value in lora.trainable(denoiser).values()]
    for value in lora.trainable(denoiser).values():
        value.grad = None
    return prediction.detach(), gradients


def weights_of(block: nn.Module) -> list[nn.Parameter]:
    return [value for value in block.parameters() if not value.requires_grad]


def equal(one, other) -> bool:
    return torch.equal(one[0], other[0]) and all(map(torch.equal, one[1], other[1]))


@pytest.mark.parametrize(
    ("kind", "count", "checkpointing"),
    [
        ("lora", 1, False),
        ("lora", 2, True),
        ("dora", 2, False),
        ("dora", 1, True),
        ("lokr", 2, True),
    ],
)
def test_gradients_are_those_of_the_plain_path(kind, count, checkpointing):
    shelf, denoiser, *given = built(kind, checkpointing=checkpointing)
    plain = step(shelf, denoiser, *given)
    swap(denoiser, count, CPU)
    assert equal(step(shelf, denoiser, *given), plain)
    assert equal(step(shelf, denoiser, *given), plain)  # and once more, the order being known


@pytest.mark.parametrize("family", FAMILIES.names())
def test_every_family_swaps_all_its_blocks(family):
    shelf, denoiser, noisy, given = built(family=family)
    plain = step(shelf, denoiser, noisy, given)
    count = len(blocks_of(denoiser))
    assert count >= 2
    swap(denoiser, count, CPU)
    assert equal(step(shelf, denoiser, noisy, given), plain)


def test_what_waits_is_away_and_the_adapter_never_is():
    shelf, denoiser, *given = built()
    swapped = swap(denoiser, 1, CPU)
    here, away = blocks_of(denoiser).values()
    assert all(value.untyped_storage().nbytes() for value in weights_of(here))
    assert not any(value.untyped_storage().nbytes() for value in weights_of(away))
    seen = []
    away.register_forward_pre_hook(
        lambda *_: seen.append({value.untyped_storage().nbytes() > 0 for value in weights_of(away)})
    )
    step(shelf, denoiser, *given)
    assert seen == [{True}]
    assert swapped.inside == 0
    assert not any(value.untyped_storage().nbytes() for value in weights_of(away))
    assert all(value.untyped_storage().nbytes() for value in lora.trainable(denoiser).values())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_one_block_at_a_time_is_inside(checkpointing):
    shelf, denoiser, *given = built(checkpointing=checkpointing)
    swapped = swap(denoiser, 2, CPU)
    step(shelf, denoiser, *given)
    assert swapped.peak == max(group.nbytes for group in swapped.groups.values())


def test_sampling_between_two_steps_changes_nothing():
    shelf, denoiser, *given = built()
    plain = step(shelf, denoiser, *given)
    swap(denoiser, 2, CPU)
    prediction = shelf.predict(denoiser, given[0], torch.tensor([0.3, 0.8]), given[1])
    with torch.no_grad(), lora.frozen(denoiser):
        shelf.predict(denoiser, given[0] + 1, torch.tensor([0.1, 0.2]), given[1])
    prediction.square().mean().backward()
    gradients = [value.grad for value in lora.trainable(denoiser).values()]
    assert equal((prediction.detach(), gradients), plain)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_quantised_blocks_swap_with_their_scales(checkpointing, count):
    shelf, denoiser, *given = built(checkpointing=checkpointing)
    lora.detach(denoiser)
    quantise(denoiser, "nf4", dtype=torch.float32, device="cpu")
    lora.attach(denoiser, lora.LoraSpec(rank=4, targets=shelf.lora_targets), seed=0)
    plain = step(shelf, denoiser, *given)
    swap(denoiser, count, CPU)
    state = blocks_of(denoiser)["blocks.1"].attn1.to_q.base_layer.weight.quant_state
    assert state.absmax.untyped_storage().nbytes() == 0
    assert equal(step(shelf, denoiser, *given), plain)


def test_more_blocks_than_there_are():
    _, denoiser, *_ = built()
    with pytest.raises(ValueError, match="has 2 blocks to swap; choose 0 to 2"):
        swap(denoiser, 3, CPU)


def test_a_mapped_storage_is_left_alone(tmp_path):
    whole = torch.arange(12.0)
    layer = nn.Linear(2, 3, bias=False)
    layer.weight = nn.Parameter(whole[3:9].view(3, 2), requires_grad=False)
    group = Group([layer], CPU)
    assert layer.weight.untyped_storage().nbytes() == 0
    assert torch.equal(whole, torch.arange(12.0))
    group.fetch()
    assert torch.equal(layer.weight, torch.arange(12.0)[3:9].view(3, 2))


def test_ddp_is_told_to_leave_waiting_weights_alone():
    _, denoiser, *_ = built()
    swap(denoiser, 1, CPU)
    left = denoiser._ddp_params_and_buffers_to_ignore
    assert all(name.startswith("blocks.1.") and "lora_" not in name for name in left)
    assert len(left) == len(weights_of(blocks_of(denoiser)["blocks.1"]))
