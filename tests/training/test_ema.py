"""The average: its value, its place in the model, its way through a checkpoint."""

import io
from typing import Any

import pytest
import torch
from torch import nn

from frisket.training.ema import Average


def adapter(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    made = torch.Generator().manual_seed(0)
    return {
        "a": nn.Parameter(torch.randn(3, 4, generator=made).to(dtype)),
        "b": nn.Parameter(torch.zeros(2, dtype=dtype)),
    }


def move(parameters: dict[str, nn.Parameter], seed: int) -> None:
    made = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in parameters.values():
            p.add_(torch.randn(p.shape, generator=made).to(p.dtype))


def through_disk(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    loaded: dict[str, Any] = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    return loaded


def test_the_average_follows_its_formula_with_warm_up() -> None:
    parameters = adapter()
    ema = Average(parameters, decay=0.3)
    expected = torch.empty(3, 4)
    for step, decay in enumerate([0.0, 2 / 11, 3 / 12, 0.3, 0.3]):
        move(parameters, step)
        ema.update(step + 1)
        now = parameters["a"].detach()
        expected = now.clone() if step == 0 else decay * expected + (1 - decay) * now
        torch.testing.assert_close(ema.shadows["a"], expected)
    assert ema.steps == 5


def test_bfloat16_weights_are_averaged_in_float32() -> None:
    parameters = adapter(torch.bfloat16)
    ema = Average(parameters, decay=0.999)
    for step in (1, 2, 3):
        ema.update(step)
    with torch.no_grad():
        parameters["b"] += 1
    ema.update(4)
    assert ema.shadows["b"].dtype == torch.float32
    assert ema.shadows["b"][0].item() == pytest.approx(9 / 13)
    with ema.apply():
        assert parameters["b"].dtype == torch.bfloat16
        assert parameters["b"][0].item() == pytest.approx(9 / 13, rel=1e-2)


def test_applied_swaps_in_and_restores_exactly_even_after_an_error() -> None:
    parameters = adapter()
    ema = Average(parameters, decay=0.9)
    for seed in range(3):
        move(parameters, seed)
        ema.update(seed + 1)
    kept = {name: p.detach().clone() for name, p in parameters.items()}

    def interrupted() -> None:
        with ema.apply():
            assert torch.equal(parameters["a"], ema.shadows["a"])
            assert not torch.equal(parameters["a"], kept["a"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(torch.equal(parameters[name], kept[name]) for name in parameters)
    assert all(p.requires_grad for p in parameters.values())


def test_a_resumed_average_is_the_uninterrupted_one() -> None:
    parameters = adapter()
    whole = Average(parameters, decay=0.9)
    resumed = Average(parameters, decay=0.9)
    for seed in range(6):
        move(parameters, seed)
        whole.update(seed + 1)
        if seed == 2:
            resumed.load_state_dict(through_disk(whole.state_dict()))
        elif seed > 2:
            resumed.update(seed + 1)
    with pytest.raises(ValueError, match="step 6 follows step 6"):
        resumed.update(6)
    assert all(torch.equal(whole.shadows[name], resumed.shadows[name]) for name in parameters)


def test_the_state_of_another_adapter_is_refused_and_changes_nothing() -> None:
    parameters = adapter()
    ema = Average(parameters, decay=0.9)
    other = Average({**adapter(), "b": nn.Parameter(torch.ones(5))}, decay=0.9)
    with pytest.raises(ValueError, match=r"b is \(5,\) in the checkpoint and \(2,\)"):
        ema.load_state_dict(other.state_dict())
    wider = Average({**adapter(), "c": nn.Parameter(torch.ones(5))}, decay=0.9)
    with pytest.raises(ValueError, match=r"c is \(5,\) in the checkpoint and not in the adapter"):
        ema.load_state_dict(wider.state_dict())
    assert torch.equal(ema.shadows["a"], parameters["a"])


def test_a_decay_that_averages_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.0"):
        Average(adapter(), decay=1.0)
