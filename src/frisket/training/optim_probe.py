"""What an optimizer's name would run, and whether its class can be stepped as training does."""

import inspect
import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from frisket.training import optim
from frisket.training.optim import ALIASES, BadOptimizer, OptimizerSpec, build, mode


def find_import(name: str) -> str:
    """The module that a name would import and so run, "" where it is one behind the aliases."""
    module = name.rpartition(".")[0]
    known = {path.rpartition(".")[0] for alias in ALIASES.values() for path in alias.paths}
    return "" if module in known or name in ALIASES else module


def probe(spec: OptimizerSpec, *, ema: float = 0.0, max_norm: float = 0.0) -> None:
    """Take one step with a small matrix, as the training loop does; BadOptimizer where that fails.

    An optimizer that keeps two sets of weights (schedule-free) averages by itself: a second average
    (`ema`) would be of the weights it only trains at, not of those it saves, and is refused; so is
    a limit to their norm (`max_norm`).

    It finds what only a step shows: a class that wants the loss as a closure (LBFGS), or sparse
    gradients (SparseAdam). A class that needs a GPU is tried on it, and not at all without one.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    low, high = (nn.Parameter(torch.ones(4, 4, device=device)) for _ in range(2))
    with _silent():
        optimizer = build({"probe.lora_A": low, "probe.lora_B": high}, spec)
    if callable(getattr(optimizer, "eval", None)):
        _refuse_second_weights(spec, ema, max_norm)
    if "closure" in _list_required(type(optimizer).step):
        raise BadOptimizer(
            f"optimizer {spec.name!r}: its step() needs the loss as a closure, which would run the"
            f" model several times a step; take one of {', '.join(sorted(ALIASES))}"
        )
    mode(optimizer, training=True)
    for matrix in (low, high):
        matrix.grad = torch.ones_like(matrix)
    try:
        with _silent():
            optimizer.step()
    except Exception as error:
        if device == "cpu" and "cuda" in str(error).lower():
            return
        raise _refuse_step(spec, str(error).partition("\n")[0][:200]) from error


def _refuse_step(spec: OptimizerSpec, reason: str) -> BadOptimizer:
    """The refusal of an optimizer whose first step fails, for that `reason`."""
    if spec.plus and _steps(spec):
        return BadOptimizer(
            f"optimizer.lora_plus = {spec.plus:g} and {spec.name!r} contradict ({reason}): leave"
            " optimizer.lora_plus out, or take another optimizer"
        )
    return BadOptimizer(
        f"optimizer {spec.name!r}: a first step with a small matrix fails ({reason}); take one"
        f" of {', '.join(sorted(ALIASES))}, or other optimizer.options"
    )


def _refuse_second_weights(spec: OptimizerSpec, ema: float, max_norm: float) -> None:
    """BadOptimizer for what reads the weights that a schedule-free optimizer trains at."""
    if ema:
        raise BadOptimizer(
            f"optimizer.ema = {ema:g} and {spec.name!r} contradict: it averages by itself, and the"
            " second average would be of other weights than it saves; leave optimizer.ema out"
        )
    if max_norm:
        raise BadOptimizer(
            f"lora.max_norm = {max_norm:g} and {spec.name!r} contradict: it saves other weights"
            " than it trains at, which no limit would reach; leave lora.max_norm out"
        )


def _steps(spec: OptimizerSpec) -> bool:
    """Whether the same optimizer takes its step without LoRA+."""
    try:
        probe(replace(spec, plus=0.0))
    except BadOptimizer:
        return False
    return True


@contextmanager
def _silent() -> Iterator[None]:
    """Within, nothing is said that will be said when the optimizer is built to train."""
    level = optim.log.level
    optim.log.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        optim.log.setLevel(level)


def _list_required(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments without a default."""
    signature = inspect.signature(inspect.unwrap(function)).parameters.values()
    return [p.name for p in signature if p.default is p.empty]
