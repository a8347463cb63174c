"""Methods on every family whose layers have a place for them: nothing is what it must be."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.contracts.conftest import Case, normal
from tests.contracts.test_attention import count_hooks, find_model
from torch import Tensor, nn

from frisket.attention.base import AttentionLayer, BranchCall
from frisket.inference.methods.identity.image_attention import (
    ImageAdapter,
    ImageAttention,
    RowOwners,
)

WIDTH, TOKENS = 12, 3


def list_places(case: Case) -> list[AttentionLayer]:
    """The layers with a place; skips a family that has none."""
    denoiser = case.parts.denoiser
    assert denoiser is not None
    layers = case.family.list_attention_layers(find_model(denoiser))
    places = [layer for layer in layers if layer.add_branch is not None]
    if not places:
        pytest.skip("no layer has a place for image adapters")
    return places


def make_adapter(layers: Sequence[AttentionLayer], seed: int = 0, **options: Any) -> ImageAdapter:
    """Random weights of the width of each layer's query."""
    torch.manual_seed(seed)
    keys, values = (
        {layer.name: nn.Linear(WIDTH, find_width(layer), bias=False) for layer in layers}
        for _ in range(2)
    )
    return ImageAdapter(
        keys=keys,
        values=values,
        tokens=normal(2, TOKENS, WIDTH, seed=seed),
        negative=torch.zeros(1, TOKENS, WIDTH),
        **options,
    )


def find_width(layer: AttentionLayer) -> int:
    module: Any = layer.module
    return next(
        value.shape[0] for name, value in module.named_parameters() if "to_q" in name.split(".")
    )


def own_rows(call: BranchCall) -> RowOwners:
    """Of a batch of two, all on the prompt's side; a family may call for some of it."""
    samples = torch.arange(2) if call.samples is None else torch.tensor(call.samples)
    return RowOwners(samples, (True,) * len(samples))


@torch.no_grad()
def predict(case: Case, *adapters: ImageAdapter) -> Tensor:
    denoiser = case.parts.denoiser
    assert denoiser is not None
    with ImageAttention(list_places(case), adapters).attach_branches(own_rows):
        return case.predict(denoiser, case.lengths[-1])


def test_an_adapter_of_nothing_is_the_bare_model_and_leaves_it_bare(case: Case) -> None:
    layers, denoiser = list_places(case), case.parts.denoiser
    assert denoiser is not None
    hooks, bare = count_hooks(denoiser), predict(case)
    adapter = make_adapter(layers)
    moved = predict(case, adapter)
    assert torch.isfinite(moved).all()
    assert all(not torch.equal(*rows) for rows in zip(moved, bare, strict=True))
    for nothing in (
        replace(adapter, scale=0.0),
        replace(adapter, scale=(0.0, 1.0)),
        replace(adapter, mask=torch.zeros(1, 1, 8, 8)),
    ):
        assert torch.equal(predict(case, nothing), bare)
    assert torch.equal(predict(case), bare)
    assert count_hooks(denoiser) == hooks


def test_rows_are_independent_and_a_mask_is_each_ones_own(case: Case) -> None:
    adapter = make_adapter(list_places(case))
    moved, bare = predict(case, adapter), predict(case)
    tokens = adapter.tokens.clone()
    tokens[1] = normal(TOKENS, WIDTH, seed=7)
    other = predict(case, replace(adapter, tokens=tokens))
    assert torch.equal(other[0], moved[0])
    assert not torch.equal(other[1], moved[1])
    mask = torch.ones(2, 1, 1, 1)
    mask[0] = 0
    masked = predict(case, replace(adapter, mask=mask))
    torch.testing.assert_close(masked[0], bare[0], rtol=0, atol=0)
    torch.testing.assert_close(masked[1], moved[1], rtol=0, atol=0)


def test_a_mask_confines_at_the_layer_and_adapters_add_up(case: Case) -> None:
    layer = list_places(case)[0]
    adapter, second = make_adapter([layer]), make_adapter([layer], seed=1, scale=0.5)
    calls: list[BranchCall] = []

    def record(*adapters: ImageAdapter) -> Tensor:
        """What the layer gives, as a branch that comes after sees it."""
        denoiser = case.parts.denoiser
        assert denoiser is not None
        assert layer.add_branch is not None
        with torch.no_grad(), ImageAttention([layer], adapters).attach_branches(own_rows):
            remove = layer.add_branch(calls.append)  # type: ignore[arg-type]
            case.predict(denoiser, case.lengths[-1])
            remove()
        return calls[-1].output

    bare, both = record(), record(adapter, second)
    apart = [record(one) - bare for one in (adapter, second)]
    torch.testing.assert_close(both - bare, apart[0] + apart[1], rtol=1e-4, atol=1e-5)
    frames, height, width = calls[-1].cells
    mask = torch.zeros(1, 1, height, width)
    mask[..., width // 2 :] = 1
    masked = record(replace(adapter, mask=mask)) - bare
    inside = mask[:, 0].expand(frames, -1, -1).flatten().bool()
    assert torch.equal(masked[:, ~inside], torch.zeros_like(masked[:, ~inside]))
    torch.testing.assert_close(masked[:, inside], apart[0][:, inside], rtol=1e-5, atol=1e-6)
