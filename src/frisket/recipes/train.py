"""`frisket train`: from a configuration to a LoRA, its metrics and its card."""

import logging
import os
import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from frisket.adapters import lora
from frisket.adapters.forms import check_form
from frisket.config.compat import (
    bare_of,
    betas_of,
    compat_of,
    departures,
    normalise_of,
)
from frisket.config.load import ConfigError, check
from frisket.config.regions import weights_of
from frisket.config.run_config import write_trained
from frisket.config.tree import Config
from frisket.data.loader import Loader
from frisket.families.base import (
    FAMILIES,
    Family,
    Source,
    layer_names,
)
from frisket.objectives.noise import Noise
from frisket.progress import Progress
from frisket.runs import banner
from frisket.runs.card import write_card
from frisket.runs.checkpointing import add_hooks, check_resumable, resume, save_adapter
from frisket.runs.epochs import counted, rates_of
from frisket.runs.prepare import Prepared, prepare, source_of
from frisket.runs.previews import prepare_previews
from frisket.runs.refusals import memory_of, optimizer_of, stop_if_refused, terms_of
from frisket.runs.sampler import files_of
from frisket.runs.training_parts import may_idle, spec_of, timesteps_of, trained_experts
from frisket.training import optim, schedules
from frisket.training.distributed import Team, assemble
from frisket.training.ema import Average
from frisket.training.lock import locked
from frisket.training.memory import plan as memory_plan
from frisket.training.memory.out_of_memory import room_for
from frisket.training.metrics_log import Record, open_trackers
from frisket.training.plan import Plan
from frisket.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a finished run leaves: its LoRA and what it took."""

    loras: tuple[Path, ...]  # one file, or one of each trained expert
    steps: int
    seconds: float  # of process CPU time spent in the training loop
    peak_mib: float  # largest memory of the process (device memory on CUDA)
    empty: int  # samples that had no weight anywhere

    @property
    def lora(self) -> Path:
        """The file, or the first of several."""
        return self.loras[0]


def train(
    config: Config,
    *,
    prepared: Prepared | None = None,
    progress: Progress = lambda *_: None,
    announce: Callable[[Config, Prepared], None] = lambda *_: None,
) -> Outcome:
    """Run a configuration to its end, going on from the newest checkpoint.

    `announce` gets what was prepared before the first step (the CLI prints the banner there).
    Raises the errors of every room it walks through; each names the file, the value and the fix.
    """
    check(config)
    stop_if_refused(config)
    plan = memory_of(config)
    if not config.run.epochs:
        rates_of(config)  # refuses what does not fit into the run
    if config.run.threads:
        torch.set_num_threads(config.run.threads)
    make_output(config.run.output)
    family = FAMILIES.load(config.model.family)
    source = source_of(config, family)
    team = assemble(
        precision=config.run.precision,
        device=source.device,
        idle=may_idle(config, family.variants[source.variant]),
    )
    source = replace(source, device=str(team.accelerator.device))
    owned = locked(config.run.output) if team.accelerator.is_main_process else nullcontext()
    with owned, room_for("train"):
        check_resumable(config)
        return _train(config, family, source, team, plan, prepared, progress, announce)


def _train(
    config: Config,
    family: Family,
    source: Source,
    team: Team,
    plan: memory_plan.MemoryPlan,
    prepared: Prepared | None,
    progress: Progress,
    announce: Callable[[Config, Prepared], None],
) -> Outcome:
    """The run proper, in a folder that is ours alone."""
    output, first = config.run.output, team.accelerator.is_main_process
    settings = config.model_dump(mode="json")
    asked = config.run.trackers if first else ()
    trackers = open_trackers(asked, project="frisket", folder=output, settings=settings)
    if prepared is None:

        def preparing(stage: str, done: int, total: int) -> None:
            progress(stage, done, total, {})

        prepared = team.first(lambda: prepare(config, progress=preparing))
    config = counted(config, prepared.items, processes=team.accelerator.num_processes)
    banner.check(config, prepared)
    if first:
        for line in departures(config, prepared):
            log.warning("%s", line)
        announce(config, prepared)

    # Before the denoiser is there: the text encoder has come and gone by then.
    previews = prepare_previews(config, family, source) if first else None
    denoiser = adapted(config, family, source, plan)
    memory_plan.apply(denoiser, plan, device=team.accelerator.device)
    team.wait()  # a preview's text and another disk's weights take their time
    trainer = build(config, family, source, team, denoiser, prepared)
    resume(config, trainer, prepared)
    add_hooks(config, trainer, prepared, progress, previews)
    if team.accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # the text encoder's moment is over
    began = time.process_time()
    if first:
        write_trained(config, output)
        with Record(output / "metrics.jsonl", step=trainer.done, trackers=trackers) as record:
            trainer.record = record
            trainer.run()
    else:
        trainer.run()
    seconds = time.process_time() - began
    if first:
        save_adapter(config, trainer, prepared, output / "lora.safetensors")
        write_card(config, prepared, output / "README.md")
    team.wait()
    files = files_of(output / "lora.safetensors")
    return Outcome(files, trainer.done, seconds, peak_mib(team.accelerator.device), trainer.empty)


def adapted(
    config: Config, family: Family, source: Source, plan: memory_plan.MemoryPlan
) -> torch.nn.Module:
    """The denoiser (of experts those that are trained) with its adapter, fresh or from a file."""
    variant = family.variants[source.variant]
    where = memory_plan.load_device(plan, source.device)
    experts = trained_experts(config, variant)
    denoiser = family.load_denoiser(replace(source, device=where, experts=experts))
    spec, names = spec_of(config, family), layer_names(family, source.variant)
    layers = lora.attach(denoiser, spec, seed=config.run.seed)
    # Once more on the model itself: before it was loaded its shape may not have been known.
    for prefix in [f"experts.{name}." for name in experts] or [""]:
        own = [layer.removeprefix(prefix) for layer in layers if layer.startswith(prefix)]
        check_form(names, spec.kind, config.lora.format, own)
    if config.lora.source is not None:
        lora.load(denoiser, config.lora.source, prefix=family.lora_prefix, names=names)
    return denoiser


def make_output(output: Path) -> None:
    """Make the run's folder; ConfigError where it cannot be made or written, before any work."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        probe = output / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"run.output: {output} cannot be written ({error.strerror}); choose another folder with"
            " --set run.output=..., or free this one"
        ) from error


def plan_of(config: Config) -> Plan:
    """What the trainer does with the terms: how often, and divided by what."""
    compat, (beta, raw_beta) = compat_of(config), betas_of(config)
    return Plan(
        steps=config.run.steps,
        accumulate=config.optimizer.accumulate,
        seed=config.run.seed,
        clip=config.optimizer.clip,
        normalise=normalise_of(config),
        beta=beta,
        raw_beta=raw_beta,
        draw=(compat.draw if compat else None) or "sample",
        unscaled_by=bare_of(config),
        unmasked_probability=config.curve.unmasked_probability,
        feather_t=config.curve.feather_t,
        max_norm=config.lora.max_norm,
        noise=noise_of(config),
    )


def noise_of(config: Config) -> Noise:
    """The `[noise]` table in plain values."""
    chosen = config.noise
    return Noise(
        chosen.offset, chosen.offset_random, chosen.multires_iterations, chosen.multires_discount
    )


def build(
    config: Config,
    family: Family,
    source: Source,
    team: Team,
    denoiser: torch.nn.Module,
    prepared: Prepared,
) -> Trainer:
    """Everything a trainer stands on, wired; nothing resumed yet, nothing recorded."""
    run, chosen = config.run, config.optimizer
    variant = family.variants[source.variant]
    parameters = lora.trainable(denoiser)
    optimizer = optim.build(parameters, optimizer_of(config))
    schedule = schedules.schedule(optimizer, rates_of(config))
    accelerator = team.accelerator
    loader = Loader(
        prepared,
        batch=run.batch,
        seed=run.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    wrapped = accelerator.prepare(denoiser) if accelerator.num_processes > 1 else denoiser
    return Trainer(
        family=family,
        grid=variant.grid,
        denoiser=wrapped,
        parameters=parameters,
        objective=family.objective(
            source.variant,
            timesteps_of(config, variant),
            weighting=config.timesteps.weighting,
            min_snr=config.timesteps.min_snr,
        ),
        weights=weights_of(config),
        terms=terms_of(config),
        optimizer=optimizer,
        schedule=schedule,
        batches=loader.stream,
        plan=replace(plan_of(config), epoch=loader.schedule.length),
        team=team,
        average=Average(parameters, chosen.ema) if chosen.ema else None,
    )


def peak_mib(device: torch.device) -> float:
    """Largest memory, MiB: reserved on the device while training, else resident of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024
