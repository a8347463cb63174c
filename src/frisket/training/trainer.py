"""The training loop; `Trainer.step` reads as the papers."""

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Generator, Tensor, nn

from frisket.adapters.norms import limit_norms
from frisket.data.sample import Batch
from frisket.families.base import Family
from frisket.grid import LatentGrid
from frisket.losses.base import (
    BASE,
    CONTROLLED,
    DECODED,
    EMA,
    FACES,
    LEFT_OUT,
    STRUCTURE,
    LossTerm,
    Step,
    check_needs,
)
from frisket.losses.weighting import pool
from frisket.masks.weights import RegionWeights
from frisket.objectives.base import Objective
from frisket.shapes import Latents, PerSample
from frisket.training.attention import AttentionWatch, watch_layers
from frisket.training.decoded.faces import FaceWatch
from frisket.training.decoded.looking import describe_pictures
from frisket.training.decoded.structure import StructureWatch
from frisket.training.distributed import Team
from frisket.training.ema import Average, evaluating
from frisket.training.interrupt import Stopped, listening
from frisket.training.metrics_log import MetricsLog
from frisket.training.optim import NonFinite, clip, mode, settle
from frisket.training.plan import Hooks, MicroBatch, Plan, seed_step, weigh_batch, weigh_carried
from frisket.training.schedules import set_rates
from frisket.training.step_metrics import (
    mean_metrics,
    measure_clips,
    measure_kept,
    note_step,
    sum_metrics,
)
from frisket.training.teachers import Teachers
from frisket.training.token_routing import TokenDraws, describe_tokens, silence

SKIPS = 25  # the loss scale starts at 2^16: by then it is below what any gradient needs


class Diverged(RuntimeError):
    """The loss or a gradient is not finite; the message says where and what to change."""


@dataclass(slots=True)
class Trainer:
    """Trains the `parameters` of `denoiser`; everything random is a function of (seed, step).

    ValueError where a term needs what no trainer gives, or an average that this one has not.
    """

    family: Family
    grid: LatentGrid
    denoiser: nn.Module
    parameters: Mapping[str, nn.Parameter]  # of the adapter, or all there are, by name
    objective: Objective
    weights: RegionWeights
    terms: Mapping[str, tuple[LossTerm, float]]
    optimizer: Any
    schedule: Any
    batches: Callable[[int], Iterator[Batch]]  # this process's micro-batches from a row on
    plan: Plan
    team: Team
    record: MetricsLog | None = None  # opened at the step the run goes on from
    average: Average | None = None
    hooks: Hooks = field(default_factory=Hooks)
    confine: Callable[[Batch], AbstractContextManager[Any]] = nullcontext  # where the adapter acts
    extra: Callable[[], Mapping[str, Tensor]] = dict  # losses that are of no prediction
    faces: FaceWatch | None = None  # where a term compares some
    structure: StructureWatch | None = None  # where a term compares it
    controlled: bool = False  # a frozen ControlNet is beside the denoiser, on where it is confined
    routing: TokenDraws | None = None  # which tokens pass by the middle blocks, or all of them
    done: int = 0
    rows: int = 0  # batches taken from the one row that all processes deal out, by all of them
    skipped: int = 0  # steps that the loss scale left out: nothing moved in them
    generator: Generator = field(default_factory=Generator)
    zero_weight_samples: int = 0  # samples so far that had no weight anywhere
    stop: int = 0  # the signal that asked for it
    saved: int = -1  # the step last saved by this process
    in_a_row: int = 0  # of the steps left out, those without one that moved between
    notes: dict[str, Any] = field(default_factory=dict)  # of the last step, for its record alone
    watch: AttentionWatch = field(init=False)

    def __post_init__(self) -> None:
        """Refuse needs that cannot be met, before any work."""
        parts = {
            EMA: self.average,
            FACES: self.faces,
            STRUCTURE: self.structure,
            DECODED: self.faces or self.structure,
            CONTROLLED: self.controlled or None,
        }
        lacking = [need for need, part in parts.items() if part is None]
        for name, (term, _) in self.terms.items():
            check_needs(name, term, lacking)
        self.watch = watch_layers(self.family, self.unwrapped, self.terms, self.plan.phrases)

    @property
    def accelerator(self) -> Accelerator:
        """Device, autocast, loss scale and ranks."""
        return self.team.accelerator

    @property
    def unwrapped(self) -> nn.Module:
        """The denoiser without what accelerate wraps it in: the same numbers on 1 or N GPUs."""
        module: nn.Module = self.accelerator.unwrap_model(self.denoiser, keep_fp32_wrapper=False)
        return module

    @property
    def moved(self) -> int:
        """Steps in which the weights moved: what schedule and average count."""
        return self.done - self.skipped

    def step(self, micro: MicroBatch) -> tuple[dict[str, Tensor], Step]:
        """One micro-batch: the strength-weighted value of every loss term."""
        batch, t, weighed = micro.batch, micro.t, micro.weighed
        noisy, target = self.objective.corrupt(batch.latents, micro.noise, t)
        with self.confine(batch), self._carry(micro):
            # The teachers first: an averaged one borrows the weights the student's graph will hold.
            teachers = self._teachers(noisy, t, batch)
            with self.watch.watch(batch) as collect, self.accelerator.autocast():
                prediction = self.family.predict(self.denoiser, noisy, t, batch.conditioning)
        prediction, watches = silence(prediction, micro.selection), (self.faces, self.structure)
        step = Step(
            prediction=prediction,
            target=target,
            t=t,
            weights=weighed.weights,
            coverage=batch.coverage,
            divisor=weighed.divisor,
            prior=teachers.get(BASE),
            prior_ema=teachers.get(EMA),
            prior_control=teachers.get(CONTROLLED),
            progress=self._progress,
            uncurved=weighed.uncurved,
            outside=weighed.outside
            if batch.prior_coverage is None
            else self.weights.outside(batch.prior_coverage, batch.masked),
            predicted=weighed.predicted,
            noisy=noisy if LEFT_OUT in self._needs else None,
            left_out=weighed.left_out,
            **describe_tokens(micro.selection),
            attention=collect(),
            **describe_pictures(watches, self.objective, batch, noisy, prediction, t),
        )
        values = {
            name: (self._scale(name, batch, t) * term(step)).mean() * strength
            for name, (term, strength) in self.terms.items()
        }
        return {**values, **self.extra()}, step

    def run(self) -> None:
        """Train from the steps already done to the planned ones.

        Ctrl-C, SIGTERM and SIGHUP (of any process) end the run after the step it is in: it saves,
        then raises Stopped.
        """
        began = time.perf_counter()
        stream = self.batches(self.rows)
        with listening(partial(setattr, self, "stop")):
            while self.done < self.plan.steps and not self._stopping():
                group = [next(stream) for _ in range(self.plan.accumulate)]
                values = self._optimize(group)
                self.done += 1
                self.rows += len(group) * self.accelerator.num_processes
                values["step_seconds"] = round(time.perf_counter() - began, 4)
                began = time.perf_counter()
                self._after(values)
            if self.done < self.plan.steps:
                if self.saved != self.done:
                    self._save()
                raise Stopped(f"stopped and saved after step {self.done}", self.stop)

    def _stopping(self) -> bool:
        """Whether any process was asked to stop: all stop together, or the others would wait."""
        stopping = float(self.team.total(torch.tensor(float(self.stop > 0)))) > 0
        if stopping and not self.stop:
            self.stop = signal.SIGTERM
        return stopping

    @property
    def _progress(self) -> float:
        return self.done / self.plan.steps

    def _optimize(self, group: Sequence[Batch]) -> dict[str, float]:
        """One optimizer step over its micro-batches."""
        self._seed()
        if not self.denoiser.training:
            self.denoiser.train()  # walks every module: once, not every step
        mode(self.optimizer, training=True)
        micros = self.lay(group)
        sums: dict[str, Tensor] = {}
        step_values: list[Tensor] = []
        for index, micro in enumerate(micros):
            last = index == len(micros) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.denoiser):
                values, step = self.step(micro)
                loss = torch.stack(list(values.values())).sum()
                # DistributedDataParallel averages over the ranks, and the share is of all of them.
                self._backward(loss * (micro.share * self.accelerator.num_processes))
            for name, value in sum_metrics(micro, {"loss": loss, **values}, step).items():
                sums[name] = sums[name] + value if name in sums else value
            step_values.append(measure_clips(step))
        totals = mean_metrics(sums)
        self.zero_weight_samples += int(totals.pop("silent"))
        self.notes = note_step(micros, step_values, self.accelerator.device)
        if self.routing is not None:
            totals["kept"] = measure_kept(micros)
        totals["lr"] = float(self.optimizer.param_groups[0]["lr"])  # before the schedule moves it
        names = ", ".join(name for batch in group for name in batch.names)
        return totals | self._update(totals, names)

    def lay(self, group: Sequence[Batch]) -> list[MicroBatch]:
        """What the micro-batches of one step are made of: noise, t, weights, divisor, share."""
        batches = [batch.to(self.accelerator.device) for batch in group]
        drawn = [self.plan.unmask(batch, self.generator) for batch in batches]
        terms = (term for term, _ in self.terms.values())
        weighing, micros = self.plan.make_weighting(self.weights, self.grid, terms), []
        for batch in drawn:
            noise = self.plan.noise.draw(batch.latents.shape, self.generator).to(batch.latents)
            t = self.objective.sample_t(len(batch), self.generator, cells=batch.cells)
            t = t.to(batch.latents.device)
            weighed = weigh_batch(weighing, batch, t, self._progress)
            micros.append(MicroBatch(batch=batch, noise=noise, t=t, weighed=weighed))
        if self.routing is not None:
            micros = self.routing.draw(micros, self.done, self._progress, self.generator)
            micros = [weigh_carried(weighing, micro, self._progress) for micro in micros]
        pooled, shares = pool(weighing, [micro.weighed for micro in micros], self.team.total)
        return [
            replace(micro, weighed=weighed, share=share)
            for micro, weighed, share in zip(micros, pooled, shares, strict=True)
        ]

    def _carry(self, micro: MicroBatch) -> AbstractContextManager[Any]:
        return nullcontext() if self.routing is None else self.routing.carry(micro.selection)

    def _backward(self, loss: Tensor) -> None:
        # Not accelerator.backward: it divides by an accumulation that the environment may set.
        scaler = self.accelerator.scaler
        (loss if scaler is None else scaler.scale(loss)).backward()

    def _update(self, totals: Mapping[str, float], names: str) -> dict[str, float]:
        """Step optimizer, schedule and average; of a step that the loss scale leaves out none."""
        if not all(map(math.isfinite, totals.values())):
            raise Diverged(
                f"step {self.done + 1}: the loss is not finite ({dict(totals)}), with the clips"
                f" {names}. Start again with a lower optimizer.lr, which goes on from"
                " the newest checkpoint, or train in bfloat16 or float32 (run.precision); where it"
                " is always the same clip, look at that clip"
            )
        norm, skipped = self._step_optimizer(names)
        self.optimizer.zero_grad(set_to_none=True)
        if skipped:
            return {"grad_norm": norm, "skipped": self._skip(names)}
        self.in_a_row = 0
        metrics = {"grad_norm": norm}
        if self.plan.max_norm:
            metrics["scaled"], metrics["largest_norm"] = limit_norms(
                self.unwrapped, self.plan.max_norm
            )
        self.schedule.step()
        if self.average is not None:
            self.average.update(self.moved + 1)
        return metrics

    def _skip(self, names: str) -> float:
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row == SKIPS:
            raise Diverged(
                f"step {self.done + 1}: {SKIPS} steps in a row overflow float16, whatever the loss"
                f" scale (clips {names}); train in bfloat16 or float32 (run.precision)"
            )
        return 1.0

    def _step_optimizer(self, names: str) -> tuple[float, bool]:
        """Clip and step; under float16 unscale first, and leave a step out that overflowed."""
        scaler = self.accelerator.scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        try:
            norm = clip(self.parameters, self.plan.clip)
        except NonFinite as error:
            if scaler is None:
                raise Diverged(f"step {self.done + 1}: {error} (clips {names})") from error
            norm = math.inf  # what the scale is for: the scaler skips this step and lowers it
        if scaler is None:
            self.optimizer.step()
            return norm, False
        scale = scaler.get_scale()
        scaler.step(self.optimizer)
        scaler.update()
        return norm, scaler.get_scale() < scale

    def _seed(self) -> None:
        seed_step(self.generator, self.plan.seed, self.done, self.accelerator.process_index)

    def _scale(self, term: str, batch: Batch, t: PerSample) -> PerSample:
        unscaled_by = self.plan.unscaled_by.get(term, frozenset())
        ones = torch.ones_like(batch.weight)
        level = ones if "t" in unscaled_by else self.objective.weight(t)
        return level * (ones if "set" in unscaled_by else batch.weight)

    @property
    def _needs(self) -> set[str]:
        return {need for term, _ in self.terms.values() for need in term.needs}

    def _teachers(self, noisy: Latents, t: PerSample, batch: Batch) -> dict[str, Latents]:
        """What the teachers that any term needs predict: eval mode, no gradient."""
        teachers = Teachers(self.family, self.unwrapped, self.accelerator, self.average)
        return teachers.predict(self._needs, noisy, t, batch.conditioning)

    def _after(self, values: dict[str, float]) -> None:
        if self.record is not None:
            self.record.write(self.done, {**values, **self.notes})
        self.hooks.progress(self.done, values)
        hooks, last = self.hooks, self.done == self.plan.steps
        before = self.rows - self.plan.accumulate * self.accelerator.num_processes
        at = (self.done, (before, self.rows), self.plan.epoch)
        if hooks.due("save", *at) or last:
            self._save()
        if hooks.due("validate", *at) or last:
            hooks.validate(self.done)
            self.team.wait()
        if hooks.due("preview", *at):
            hooks.preview(self.done)
            self.team.wait()

    def _save(self) -> None:
        self.hooks.save(self.done)
        self.saved = self.done
        self.team.wait()

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs besides what it is built from; tensors on the CPU."""
        scaler = self.accelerator.scaler
        return {
            "adapter": {name: value.detach().cpu() for name, value in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average is not None else {},
            "scaler": scaler.state_dict() if scaler is not None else {},
            "done": self.done,
            "rows": self.rows,
            "skipped": self.skipped,
            "empty": self.zero_weight_samples,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken. Learning rate and schedule stay this run's own."""
        for name, value in state["adapter"].items():
            self.parameters[name].data.copy_(value)
        rates = [group["initial_lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.done, self.rows = int(state["done"]), int(state["rows"])
        self.skipped, self.zero_weight_samples = int(state["skipped"]), int(state["empty"])
        self.saved = self.done
        set_rates(self.optimizer, self.schedule, rates, self.moved)

    @contextmanager
    def eval_mode(self) -> Iterator[nn.Module]:
        """The denoiser as it is to be sampled and saved: averaged weights, eval mode.

        The generator state and the training weights come back bit for bit: looking changes nothing.
        """
        denoiser, device = self.unwrapped, self.accelerator.device
        generators = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
        average = self.average.apply() if self.average is not None else nullcontext()
        with generators, settle(self.optimizer), average, evaluating(denoiser):
            yield denoiser
