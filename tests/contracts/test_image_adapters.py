"""Training an image adapter on every family whose layers have a place for one."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tests.contracts.conftest import Case, normal
from torch import Tensor, nn

from frisket.adapters import lora
from frisket.adapters.image.adapter import ImageAdapterModules, find_image_adapter, install_adapter
from frisket.adapters.image.numbering import list_places, number_layers
from frisket.adapters.image.start import StartSizes, is_unet, start_image_adapter
from frisket.runs.image_adapters.branches import ReferenceBranches, connect_branches

SIZES = StartSizes(reads=(24,))
ROWS = [normal(24, seed=1), normal(24, seed=2)]


@pytest.fixture
def trained(case: Case) -> tuple[Case, ReferenceBranches]:
    """A copy of the family's denoiser with a new adapter, joined; skips models without a place."""
    denoiser = case.parts.denoiser
    assert denoiser is not None
    if case.card.experts or not list_places(case.family, denoiser):
        pytest.skip("no layer has a place for image adapters, or several denoisers")
    denoiser = deepcopy(denoiser)
    install_adapter(denoiser, start_image_adapter("base", case.family, denoiser, SIZES, seed=0))
    return (
        replace(case, parts=replace(case.parts, denoiser=denoiser)),
        connect_branches(case.family, denoiser),
    )


def predict(case: Case) -> Tensor:
    assert case.parts.denoiser is not None
    return case.predict(case.parts.denoiser, case.lengths[-1])


def find_adapter(denoiser: nn.Module | None) -> ImageAdapterModules:
    assert denoiser is not None
    adapter = find_image_adapter(denoiser)
    assert adapter is not None
    return adapter


def test_a_new_adapter_learns_alone_and_rows_are_independent(
    trained: tuple[Case, ReferenceBranches],
) -> None:
    case, branches = trained
    denoiser = case.parts.denoiser
    assert denoiser is not None
    bare = predict(case).detach()
    branches.set_rows(ROWS)
    begun = predict(case)
    numbers = number_layers(case.family, denoiser)
    # A transformer begins as the base, a UNet with the text's keys and values.
    assert torch.equal(begun, bare) == (not is_unet(numbers))
    adapter = find_adapter(denoiser)
    assert lora.trainable(denoiser).keys() == {
        f"frisket_image_adapter.{name}" for name, _ in adapter.named_parameters()
    }
    begun.square().mean().backward()
    assert all(value.grad is not None for value in adapter.parameters())
    assert any(bool(value.grad.any()) for value in adapter.parameters() if value.grad is not None)
    with torch.no_grad():
        for layer in adapter.ip_adapter.values():
            layer.to_v_ip.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(3))
        moved = predict(case)
        branches.set_rows([ROWS[0], normal(24, seed=5)])
        other = predict(case)
        assert torch.equal(moved[0], other[0])
        assert not torch.equal(moved[1], other[1])
        with lora.frozen(denoiser):
            assert torch.equal(predict(case), bare)
        branches.set_rows(None)
        assert torch.equal(predict(case), bare)


def test_where_nothing_weighs_or_acts_nothing_is_learnt(
    trained: tuple[Case, ReferenceBranches],
) -> None:
    case, branches = trained
    adapter = find_adapter(case.parts.denoiser)
    bare = predict(case).detach()
    branches.set_rows(ROWS)
    weights = torch.zeros_like(bare)
    (predict(case).square() * weights).sum().backward()
    assert all(not value.grad.any() for value in adapter.parameters() if value.grad is not None)
    adapter.zero_grad()
    frames, height, width = bare.shape[2:]
    place = torch.zeros(2, 1, frames, height, width)
    place[1] = 1
    branches.set_rows(ROWS, place)
    confined = predict(case)
    torch.testing.assert_close(confined[0], bare[0], rtol=0, atol=0)
    confined[0].square().sum().backward()
    assert all(value.grad is not None for value in adapter.parameters())  # none idles
    assert all(not value.grad.any() for value in adapter.parameters() if value.grad is not None)
