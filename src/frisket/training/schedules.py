"""Learning rates by step: what share of the rate each update takes."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

log = logging.getLogger(__name__)

RateSchedule = Literal[
    "constant",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "inverse_sqrt",
    "rex",
    "warmup_stable_decay",
]
TIMESCALE = 10_000  # of inverse_sqrt without a warm-up, as transformers takes it
REX = 0.9  # Chen et al. 2021 (arXiv:2107.04197): nearer to 1 holds the rate up for longer


@dataclass(frozen=True, slots=True)
class Rates:
    """A schedule in plain values, of a run of `steps` updates.

    `warmup` and `decay` count updates; below 1 they are a share of `steps`, rounded down. `final`
    is the share of the rate left at the end, of every kind but constant. `cycles` are the restarts
    of cosine_with_restarts, and half waves of cosine and of the decay of warmup_stable_decay.
    ValueError where a number of updates is none, and where warm-up and decay are longer than the
    run.
    """

    kind: RateSchedule = "constant"
    steps: int = 1
    warmup: int | float = 0
    final: float = 0.0
    cycles: float = 1.0
    power: float = 1.0
    decay: int | float = 0.2

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        for name in ("warmup", "decay"):
            value = getattr(self, name)
            if value >= 1 and value != int(value):
                raise ValueError(
                    f"optimizer.{name} = {value:g}: give whole steps, or a share of the run below 1"
                )
        if self.kind == "warmup_stable_decay" and self.warming + self.decaying > self.steps:
            raise ValueError(
                f"optimizer.warmup and optimizer.decay are {self.warming} and {self.decaying}"
                f" steps, the run has {self.steps}: shorten them, or write shares below 1"
            )

    @property
    def warming(self) -> int:
        """Updates of the warm-up."""
        return self._count_steps(self.warmup)

    @property
    def decaying(self) -> int:
        """Updates of the decay of warmup_stable_decay."""
        return self._count_steps(self.decay)

    def _count_steps(self, value: int | float) -> int:
        return int(value * self.steps) if value < 1 else int(value)

    def factor(self, step: int) -> float:
        """Share of the learning rate at update `step` (0 is the first).

        Linear warm-up first, in which the first update already moves: (step + 1) / warm-up. Then
        the curve of the kind from 1 down to `final`, reached as the last update ends.
        """
        if step < self.warming:
            return (step + 1) / self.warming
        if self.kind == "constant":
            return 1.0
        share = CURVES[self.kind](self, step - self.warming)
        return self.final + (1.0 - self.final) * share

    def progress(self, since: int) -> float:
        """Share of the updates after the warm-up that lie before this one."""
        return min(1.0, since / max(1, self.steps - self.warming))


def _wave(half_waves: float) -> float:
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * half_waves)))


def _restarting(rates: Rates, since: int) -> float:
    done = rates.progress(since)
    return 0.0 if done >= 1 else _wave(rates.cycles * done % 1.0)


def _inverse_sqrt(rates: Rates, since: int) -> float:
    scale = rates.warming or TIMESCALE
    return 1.0 / math.sqrt(1 + since / scale)


def _rex(rates: Rates, since: int) -> float:
    left = 1 - rates.progress(since)
    return left / (1 - REX + REX * left)


def _stable(rates: Rates, since: int) -> float:
    decaying = rates.decaying
    into = since - (rates.steps - rates.warming - decaying)
    if into < 0:
        return 1.0
    return _wave(rates.cycles * into / decaying) if into < decaying else 0.0


# By updates since the warm-up, in [0, 1]. diffusers.optimization and transformers.optimization have
# all but rex, which is OneTrainer's; `tests/training/test_schedules.py` holds them together.
CURVES: Mapping[RateSchedule, Callable[[Rates, int], float]] = {
    "linear": lambda rates, since: 1 - rates.progress(since),
    "cosine": lambda rates, since: _wave(rates.cycles * rates.progress(since)),
    "cosine_with_restarts": _restarting,
    "polynomial": lambda rates, since: (1 - rates.progress(since)) ** rates.power,
    "inverse_sqrt": _inverse_sqrt,
    "rex": _rex,
    "warmup_stable_decay": _stable,
}


def schedule(optimizer: Optimizer, rates: Rates) -> LambdaLR:
    """A learning-rate schedule that depends on nothing but the step; call `.step()` per update."""
    bare = getattr(optimizer, "optimizer", optimizer)
    if rates.kind != "constant" and callable(getattr(bare, "eval", None)):
        log.warning(
            "optimizer: %s averages instead of decaying; schedule = %r on top slows it down, take"
            ' "constant"',
            type(bare).__name__,
            rates.kind,
        )

    def factor(step: int) -> float:  # not a method, which the schedule's own state would hold
        return rates.factor(step)

    return LambdaLR(optimizer, factor)


def set_rates(
    optimizer: Optimizer, schedule: LambdaLR, rates: Sequence[float], updates: int
) -> None:
    """Put a schedule at `updates` with base `rates`, one a parameter group, whatever was loaded.

    A loaded optimizer brings the rates it was saved with; those asked for now count.
    """
    schedule.base_lrs = list(rates)
    schedule.last_epoch = updates
    for group, rate, factor_of in zip(
        optimizer.param_groups, rates, schedule.lr_lambdas, strict=True
    ):
        group["initial_lr"] = rate
        group["lr"] = rate * factor_of(updates)
    schedule._last_lr = [group["lr"] for group in optimizer.param_groups]
