"""The training loop; `Trainer.step` reads as the papers."""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Generator, Tensor, nn

from frisket.adapters import lora
from frisket.data.sample import Batch
from frisket.families.base import GIVEN, Family
from frisket.grid import LatentGrid
from frisket.losses.base import Claiming, LossTerm, Normalise, Step, divisors, scaled_by_area
from frisket.masks.morphology import feather_cells
from frisket.masks.weights import RegionWeights
from frisket.objectives.base import Objective
from frisket.shapes import Latents, PerSample, Weights
from frisket.training.ema import Average
from frisket.training.optim import NonFinite, clip, mode, settled
from frisket.training.record import Record

log = logging.getLogger(__name__)


class Diverged(RuntimeError):
    """The loss or a gradient is not finite; the message says where and what to change."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run does, in plain values; the recipe fills it from the configuration.

    `raw_beta` makes the loss grow with the raw coverage (see `scaled_by_area`), `draw` says whether
    samples or whole batches train unmasked, `bare` what a term is not multiplied by: the weight of
    the noise level ("t"), of the data set ("set").
    """

    steps: int
    accumulate: int = 1
    seed: int = 0
    clip: float = 1.0
    normalise: Normalise = "sample"
    beta: float = 0.5
    raw_beta: float = 0.0
    draw: Literal["sample", "batch"] = "sample"
    bare: Mapping[str, frozenset[str]] = field(default_factory=dict)
    unmasked_probability: float = 0.0
    feather_t: float = 0.0


@dataclass(slots=True)
class Hooks:
    """What happens besides training; each is called with the number of finished steps.

    None of them may change the weights or draw from a generator of the trainer.
    """

    save: Callable[[int], None] = lambda _: None
    validate: Callable[[int], None] = lambda _: None
    preview: Callable[[int], None] = lambda _: None
    progress: Callable[[int, Mapping[str, float]], None] = lambda *_: None
    save_every: int = 0
    validate_every: int = 0
    preview_every: int = 0


@dataclass(slots=True)
class Trainer:
    """Trains the adapter on `denoiser`; everything random is a function of (seed, step)."""

    family: Family
    grid: LatentGrid
    denoiser: nn.Module
    parameters: Mapping[str, nn.Parameter]  # of the adapter, by name
    objective: Objective
    weights: RegionWeights
    terms: Mapping[str, tuple[LossTerm, float]]
    optimizer: Any
    schedule: Any
    batches: Callable[[int], Iterator[Batch]]  # the micro-batches from a given one on
    plan: Plan
    accelerator: Accelerator
    record: Record | None = None  # opened at the step the run goes on from
    average: Average | None = None
    hooks: Hooks = field(default_factory=Hooks)
    done: int = 0
    generator: Generator = field(default_factory=Generator)
    empty: int = 0  # samples so far that had no weight anywhere
    stop: bool = False

    def step(
        self, batch: Batch, weights: Weights, divisor: PerSample
    ) -> tuple[dict[str, Tensor], Step]:
        """One micro-batch: the strength-weighted value of every loss term."""
        noise = torch.randn(batch.latents.shape, generator=self.generator).to(batch.latents)
        frames, height, width = batch.latents.shape[2:]
        t = self.objective.sample_t(len(batch), self.generator, cells=(frames, height, width))
        t = t.to(batch.latents.device)
        weights, divisor = self._feathered(batch, weights, divisor, t)
        raw, weights, divisor = self._claimed(batch, weights, divisor, t)
        noisy, target = self.objective.corrupt(batch.latents, noise, t)
        with self.accelerator.autocast():
            # The teacher first: an averaged one borrows the weights the student's graph will hold.
            prior = self._prior(noisy, t, batch)
            prediction = self.family.predict(self.denoiser, noisy, t, batch.conditioning)
        progress = self.done / self.plan.steps
        outside = batch.prior_coverage
        if outside is not None:
            outside = self.weights.outside(outside, batch.masked)
        seen = Step(
            prediction, target, t, weights, batch.coverage, divisor, prior, progress, raw, outside
        )
        values = {
            name: (self._scale(name, batch, t) * term(seen)).mean() * strength
            for name, (term, strength) in self.terms.items()
        }
        return values, seen

    def run(self) -> None:
        """Train from the steps already done to the planned ones; Ctrl-C saves, then raises."""
        began = time.perf_counter()
        stream = self.batches(self.done * self.plan.accumulate)
        with self._interruptible():
            while self.done < self.plan.steps and not self.stop:
                group = [next(stream) for _ in range(self.plan.accumulate)]
                values = self._optimize(group)
                self.done += 1
                values["step_seconds"] = round(time.perf_counter() - began, 4)
                began = time.perf_counter()
                self._after(values)
        if self.stop and self.done < self.plan.steps:
            self.hooks.save(self.done)
            raise KeyboardInterrupt(f"stopped and saved after step {self.done}")

    def _optimize(self, group: Sequence[Batch]) -> dict[str, float]:
        """One optimizer step over its micro-batches."""
        self._seed()
        if not self.denoiser.training:
            self.denoiser.train()  # walks every module: once, not every step
        mode(self.optimizer, training=True)
        group = [self._drawn(batch.to(self.accelerator.device)) for batch in group]
        laid = [self._weights(batch) for batch in group]
        divisor = self._divisors(group, laid)
        totals: dict[str, float] = {}
        for index, (batch, weights) in enumerate(zip(group, laid, strict=True)):
            last = index == len(group) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.denoiser):
                values, seen = self.step(batch, weights, divisor[index])
                loss = torch.stack(list(values.values())).sum()
                self.accelerator.backward(loss / len(group))
            seen_now = {name: float(value.detach()) for name, value in values.items()}
            seen_now = {"loss": sum(seen_now.values()), **seen_now, **_shares(seen)}
            for name, value in seen_now.items():
                totals[name] = totals.get(name, 0.0) + value / len(group)
        totals["grad_norm"] = self._update(totals)
        totals["lr"] = float(self.optimizer.param_groups[0]["lr"])
        return totals

    def _update(self, totals: Mapping[str, float]) -> float:
        if not all(map(_finite, totals.values())):
            raise Diverged(
                f"step {self.done + 1}: the loss is not finite ({dict(totals)}). Lower"
                " optimizer.lr, or train in bfloat16 or float32 (run.precision)."
            )
        norm = self._step_optimizer()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.done + 1)
        return norm

    def _step_optimizer(self) -> float:
        """Clip and step; under float16 unscale first, and leave a step out that overflowed."""
        scaler = self.accelerator.scaler
        if scaler is None:
            norm = clip(self.parameters, self.plan.clip)
            self.optimizer.step()
            return norm
        scaler.unscale_(self.optimizer)
        try:
            norm = clip(self.parameters, self.plan.clip)
        except NonFinite:
            norm = math.inf  # what the scale is for: the scaler skips this step and lowers it
        scaler.step(self.optimizer)
        scaler.update()
        return norm

    def _seed(self) -> None:
        # Everything random in a step is drawn from its own seed: resuming needs no generator
        # state, and previews or validation in between change nothing.
        mixed = (self.plan.seed * 1_000_003 + self.done) * 8191 + self.accelerator.process_index
        self.generator.manual_seed(mixed % (1 << 63))
        torch.manual_seed((mixed + 1) % (1 << 63))  # adapter dropout draws from the global one

    def _drawn(self, batch: Batch) -> Batch:
        """The batch with some samples, or all of it, unmasked by chance."""
        if not self.plan.unmasked_probability:
            return batch
        count = len(batch) if self.plan.draw == "sample" else 1
        drawn = torch.rand(count, generator=self.generator)
        kept = (drawn >= self.plan.unmasked_probability).to(batch.masked.device)
        return replace(batch, masked=batch.masked & kept)

    def _weights(self, batch: Batch) -> Weights:
        weights = _without_given(self.weights(batch.coverage, batch.masked), batch)
        self.empty += int((weights.flatten(1).sum(1) == 0).sum())
        return weights

    def _divisors(self, group: Sequence[Batch], laid: Sequence[Weights]) -> list[PerSample]:
        each = [self._divisor(*pair) for pair in zip(group, laid, strict=True)]
        if self.plan.normalise == "global":
            # Mean over ranks and micro-batches of the mean laid weight: with the gradient averaged
            # over both, sum of numerators / sum of divisors comes out.
            mean = torch.stack([divisor.mean() for divisor in each]).mean()
            mean = self.accelerator.reduce(mean, reduction="mean")
            each = [mean.expand_as(divisor) for divisor in each]
        return each

    def _divisor(self, batch: Batch, weights: Weights) -> PerSample:
        plan = self.plan
        divisor = divisors(weights, self.grid.channels, plan.normalise, beta=plan.beta)
        if not plan.raw_beta:
            return divisor
        raw = self.weights.raw(batch.coverage, batch.masked)
        return scaled_by_area(divisor, raw, plan.raw_beta, pooled=plan.normalise != "sample")

    def _scale(self, term: str, batch: Batch, t: PerSample) -> PerSample:
        bare = self.plan.bare.get(term, frozenset())
        ones = torch.ones_like(batch.weight)
        level = ones if "t" in bare else self.objective.weight(t)
        return level * (ones if "set" in bare else batch.weight)

    def _claimed(
        self, batch: Batch, weights: Weights, divisor: PerSample, t: PerSample
    ) -> tuple[Weights | None, Weights, PerSample]:
        """Take the weight from cells that a term has alone; gives raw weights, weights, divisor."""
        claiming = [
            term for term, _ in self.terms.values() if isinstance(term, Claiming) and term.alone
        ]
        if not claiming:
            return None, weights, divisor
        raw = self.weights.raw(batch.coverage, batch.masked)
        for term in claiming:
            weights = weights * (1 - term.claim(raw, t, self.done / self.plan.steps))
        pooled = self.plan.normalise == "global"
        return raw, weights, divisor if pooled else self._divisor(batch, weights)

    def _feathered(
        self, batch: Batch, weights: Weights, divisor: PerSample, t: PerSample
    ) -> tuple[Weights, PerSample]:
        """Widen region borders with t (curve.feather_t pixels at pure noise, none at t = 0)."""
        if not self.plan.feather_t:
            return weights, divisor
        soft = feather_cells(batch.coverage, self.plan.feather_t * t, self.grid)
        widened = _without_given(self.weights(soft, batch.masked), batch)
        if self.plan.normalise == "global":
            return widened, divisor
        return widened, self._divisor(batch, widened)

    def _prior(self, noisy: Latents, t: PerSample, batch: Batch) -> Latents | None:
        """What the teacher predicts: adapter off (or averaged), eval mode, no gradient."""
        teachers = [term for term, _ in self.terms.values() if "prior" in term.needs]
        if not teachers:
            return None
        bare = self.accelerator.unwrap_model(self.denoiser)
        averaged = getattr(teachers[0], "teacher", "base") == "ema"
        with torch.no_grad():
            if averaged:
                if self.average is None:
                    raise ValueError('prior: teacher = "ema" needs an average (optimizer.ema > 0)')
                with self.average.applied(), evaluating(bare):
                    return self.family.predict(bare, noisy, t, batch.conditioning).detach()
            with lora.frozen(bare):
                return self.family.predict(bare, noisy, t, batch.conditioning).detach()

    def _after(self, values: dict[str, float]) -> None:
        if self.record is not None:
            self.record.write(self.done, values)
        self.hooks.progress(self.done, values)
        hooks, last = self.hooks, self.done == self.plan.steps
        if _due(self.done, hooks.validate_every) or last:
            hooks.validate(self.done)
        if _due(self.done, hooks.preview_every):
            hooks.preview(self.done)
        if _due(self.done, hooks.save_every) or last:
            hooks.save(self.done)

    @contextmanager
    def looking(self) -> Iterator[nn.Module]:
        """The denoiser as it is to be sampled and saved: averaged weights, eval mode.

        The generator state and the training weights come back bit for bit: looking changes nothing.
        """
        bare = self.accelerator.unwrap_model(self.denoiser)
        device = self.accelerator.device
        kept = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        average = self.average.applied() if self.average is not None else nullcontext()
        with kept, settled(self.optimizer), average, evaluating(bare):
            yield bare

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C finishes the step and saves; a second one stops at once."""

        def ask(_signal: int, _frame: FrameType | None) -> None:
            if self.stop:
                raise KeyboardInterrupt
            log.warning("stopping after this step; press Ctrl-C again to stop without saving")
            self.stop = True

        try:
            before = signal.signal(signal.SIGINT, ask)
        except ValueError:  # not the main thread: whoever runs us there handles signals
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode, restored after."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def _without_given(weights: Weights, batch: Batch) -> Weights:
    """No weight where the model is handed the clean latents: there is nothing to predict there."""
    given = batch.conditioning.get(GIVEN)
    return weights if given is None else weights * (1 - given)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _finite(value: float) -> bool:
    return math.isfinite(value)


@torch.no_grad()
def _shares(seen: Step) -> dict[str, float]:
    """What the mask did here: laid weight, and raw error where it teaches and where not."""
    error = (seen.prediction.detach().float() - seen.target.float()).square().mean(1, keepdim=True)
    teaches = seen.weights > 0
    shares = {"weight": float(seen.weights.mean()), "t": float(seen.t.mean())}
    for name, where in (("inside", teaches), ("outside", ~teaches)):
        if bool(where.any()):
            shares[name] = float(error[where].mean())
    return shares
