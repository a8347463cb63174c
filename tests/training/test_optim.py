"""Optimizers: every alias learns, saves and goes on; names and options are checked."""

import io
import logging
import math
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from frisket.training.optim import (
    ALIASES,
    Alias,
    BadOptimizer,
    NonFinite,
    OptimizerSpec,
    Paired,
    build,
    clip,
    mode,
    settle,
)
from frisket.training.schedules import Rates, schedule

RATES = {"prodigy": 1.0, "schedulefree": 0.02, "sgd": 0.5, "adamw8bit": 0.02, "muon": 0.02}
INSTALLED = [
    name
    for name, alias in sorted(ALIASES.items())
    if any(find_spec(path.partition(".")[0]) for path in alias.paths)
]
MISSING = sorted(set(ALIASES) - set(INSTALLED))


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    """Torchao compiles its step, which takes a C++ compiler and seconds on a CPU."""
    with torch.compiler.set_stance("force_eager"):
        yield


def problem(seed: int = 0) -> tuple[dict[str, nn.Parameter], Callable[[], Tensor]]:
    """A LoRA on one frozen layer: learn a rank-2 change and a bias-like magnitude vector."""
    made = torch.Generator().manual_seed(seed)
    inputs = torch.randn(64, 96, generator=made)
    change = torch.randn(96, 2, generator=made) @ torch.randn(2, 80, generator=made) / 10
    parameters = {
        "layer.lora_A": nn.Parameter(torch.randn(96, 64, generator=made) / 10),
        "layer.lora_B": nn.Parameter(torch.zeros(64, 80)),
        "layer.magnitude": nn.Parameter(torch.ones(80)),
    }

    def loss() -> Tensor:
        down, up, magnitude = parameters.values()
        return (((inputs @ down @ up) * magnitude - inputs @ change) ** 2).mean()

    return parameters, loss


def advance(optimizer: Optimizer, loss: Callable[[], Tensor], steps: int) -> list[float]:
    losses = []
    mode(optimizer, training=True)
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses


@pytest.mark.parametrize("name", INSTALLED)
def test_every_alias_learns_and_resumes_exactly(name: str) -> None:
    spec = OptimizerSpec(name, lr=RATES.get(name, 0.01), weight_decay=0.0)
    parameters, loss = problem()
    whole = build(parameters, spec)
    rates = schedule(whole, Rates(steps=20, warmup=3))
    losses = []
    for _ in range(20):
        losses += advance(whole, loss, 1)
        rates.step()
    assert losses[-1] < 0.9 * losses[0] if name != "prodigy" else losses[-1] < losses[0]

    halves, loss_of_halves = problem()
    first = build(halves, spec)
    rates = schedule(first, Rates(steps=20, warmup=3))
    for _ in range(10):
        advance(first, loss_of_halves, 1)
        rates.step()
    buffer = io.BytesIO()
    torch.save({"optimizer": first.state_dict(), "rates": rates.state_dict()}, buffer)
    saved = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    resumed = build(halves, spec)
    rates = schedule(resumed, Rates(steps=20, warmup=3))
    resumed.load_state_dict(saved["optimizer"])
    rates.load_state_dict(saved["rates"])
    for _ in range(10):
        advance(resumed, loss_of_halves, 1)
        rates.step()
    assert all(torch.equal(parameters[key], halves[key]) for key in parameters)


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    alias = Alias(("not_there.Lion", "nor_there.optim.Lion"), "pip install not-there")
    monkeypatch.setitem(ALIASES, "lion", alias)
    message = "optimizer 'lion' needs nor_there or not_there: pip install not-there"
    with pytest.raises(BadOptimizer, match=message):
        build(problem()[0], OptimizerSpec("lion"))
    assert all(ALIASES[name].install for name in MISSING)


def test_an_import_path_works() -> None:
    parameters, loss = problem()
    losses = advance(build(parameters, OptimizerSpec("torch.optim.RAdam", lr=0.01)), loss, 20)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (OptimizerSpec("prodigi"), "did you mean 'prodigy'"),
        (OptimizerSpec("zzz"), "there are: adafactor, adamw"),
        (OptimizerSpec("nowhere.Thing"), "there is no module 'nowhere'"),
        (OptimizerSpec("torch.optim.AdamV"), "no optimizer class 'AdamV', did you mean 'Adam"),
        (OptimizerSpec("torch.nn.Linear"), "no optimizer class 'Linear'"),
        (OptimizerSpec(options={"beta": 1}), "AdamW takes no 'beta', did you mean 'betas'"),
        (OptimizerSpec(options={"betas": (2, 2)}), "AdamW says: Invalid beta"),
        (OptimizerSpec("muon", options={"adamw": 3}), "`adamw` is a table"),
    ],
)
def test_mistakes_are_answered_with_the_fix(spec: OptimizerSpec, message: str) -> None:
    with pytest.raises(BadOptimizer, match=message):
        build(problem()[0], spec)


def test_nothing_to_train_is_an_error() -> None:
    with pytest.raises(BadOptimizer, match="nothing to train"):
        build({}, OptimizerSpec())


def test_prodigy_warns_of_a_rate_for_another_optimizer(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        build(problem()[0], OptimizerSpec("prodigy", lr=1.0))
        assert not caplog.records
        build(problem()[0], OptimizerSpec("prodigy", lr=1e-4))
    assert "wants lr = 1, not 0.0001" in caplog.text


def test_muon_takes_matrices_and_leaves_vectors_to_adamw() -> None:
    parameters, _ = problem()
    spec = OptimizerSpec("muon", options={"ns_steps": 4, "adamw": {"betas": (0.8, 0.9)}})
    paired = build(parameters, spec)
    assert isinstance(paired, Paired)
    muon, adamw = paired.parts
    assert [p.ndim for p in muon.param_groups[0]["params"]] == [2, 2]
    assert muon.param_groups[0]["ns_steps"] == 4
    assert [p.ndim for p in adamw.param_groups[0]["params"]] == [1]
    assert adamw.param_groups[0]["betas"] == (0.8, 0.9)
    rates = schedule(paired, Rates("linear", 2))
    paired.step()
    rates.step()
    assert muon.param_groups[0]["lr"] == adamw.param_groups[0]["lr"] == pytest.approx(5e-5)


def test_muon_refuses_the_state_of_another_optimizer() -> None:
    paired = build(problem()[0], OptimizerSpec("muon"))
    with pytest.raises(ValueError, match=r"another `optimizer\.name`"):
        paired.load_state_dict(build(problem()[0], OptimizerSpec()).state_dict())


def test_settled_shows_the_average_and_restores_training_bit_for_bit() -> None:
    parameters, loss = problem()
    optimizer = build(parameters, OptimizerSpec("schedulefree", lr=0.02))
    advance(optimizer, loss, 5)
    training = {name: p.detach().clone() for name, p in parameters.items()}
    with settle(optimizer):
        assert not torch.equal(parameters["layer.lora_B"], training["layer.lora_B"])
    assert all(torch.equal(parameters[name], training[name]) for name in parameters)
    advance(optimizer, loss, 1)

    plain = build(parameters, OptimizerSpec())
    kept = parameters["layer.lora_B"].detach().clone()
    with settle(plain):
        assert torch.equal(parameters["layer.lora_B"], kept)


def gradients(*values: list[float]) -> dict[str, nn.Parameter]:
    parameters = {}
    for index, value in enumerate(values):
        parameter = nn.Parameter(torch.zeros(len(value)))
        parameter.grad = torch.tensor(value)
        parameters[f"p{index}"] = parameter
    return parameters


def test_clipping_returns_the_norm_before_and_scales_to_the_limit() -> None:
    parameters = gradients([3.0], [0.0, 4.0])
    assert clip(parameters, 0.0) == pytest.approx(5)
    assert parameters["p0"].grad is not None
    assert parameters["p0"].grad.item() == 3
    assert clip(parameters, 10.0) == pytest.approx(5)
    assert parameters["p0"].grad.item() == 3
    assert clip(parameters, 1.0) == pytest.approx(5)
    assert clip(parameters, 1.0) == pytest.approx(1, abs=1e-5)
    assert clip({"frozen": nn.Parameter(torch.ones(1))}, 1.0) == 0


def test_clipping_names_what_is_not_finite_and_touches_nothing() -> None:
    parameters = gradients([1.0], [math.nan, 1.0], [2.0], [math.inf])
    with pytest.raises(NonFinite, match="not finite in p1, p3: lower") as caught:
        clip(parameters, 0.1)
    assert caught.value.names == ("p1", "p3")
    assert parameters["p0"].grad is not None
    assert parameters["p0"].grad.item() == 1


def test_clipping_survives_squares_that_overflow() -> None:
    parameters = gradients([3e30], [4e30])
    assert clip(parameters, 1.0) == pytest.approx(5e30)
    assert clip(parameters, 0.0) == pytest.approx(1)
