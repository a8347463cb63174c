"""`frisket train`: from a configuration to a LoRA (or a model), its metrics and its card."""

import logging
import os
import resource
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate.tracking import GeneralTracker

from frisket.config.checks.control import has_control
from frisket.config.compat import departures
from frisket.config.load import ConfigError, check
from frisket.config.run_config import write_trained
from frisket.config.tree import Config
from frisket.data.cached.clip_keys import write_clip_keys
from frisket.families.base import FAMILIES, Family, Source
from frisket.progress import Progress
from frisket.runs import banner
from frisket.runs.card import write_card
from frisket.runs.checkpointing import (
    add_hooks,
    check_resumable,
    prepare_validation,
    resume,
    save_adapter,
)
from frisket.runs.control.connect import connect_controls, lay_preview
from frisket.runs.control.results import find_trained_net
from frisket.runs.control.setup import open_net
from frisket.runs.control.showing import ShownControls
from frisket.runs.epochs import count_steps, rates_of
from frisket.runs.image_adapters.references import ReferenceSet, prepare_references
from frisket.runs.image_adapters.results import describe_result
from frisket.runs.image_adapters.setup import is_image_adapter_run
from frisket.runs.image_adapters.showing import ShownReferences, connect_references
from frisket.runs.methods.routing_summary import summarise_routing
from frisket.runs.prepare import Prepared, prepare, source_of
from frisket.runs.refusals import memory_of, stop_if_refused
from frisket.runs.run_record import write_banner
from frisket.runs.sampling.previews import Previews, prepare_previews
from frisket.runs.sampling.sampler import files_of
from frisket.runs.sampling.whole_models import find_model
from frisket.runs.training_parts import build_trainer, load_trainable, may_idle
from frisket.runs.whole_model import write_model
from frisket.training.distributed import Team, assemble
from frisket.training.lock import lock_folder
from frisket.training.memory import plan as memory_plan
from frisket.training.memory.out_of_memory import room_for
from frisket.training.metrics_log import MetricsLog, open_trackers
from frisket.training.trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished run leaves (LoRA, image adapter, ControlNet or model), and what it took."""

    loras: tuple[Path, ...]  # one file, or one of each trained expert; () where no LoRA is trained
    steps: int
    seconds: float  # of process CPU time spent in the training loop
    peak_mib: float  # largest memory of the process (device memory on CUDA)
    zero_weight_samples: int  # samples that had no weight anywhere
    model: Path | None = None  # the folder, where all weights were trained
    routing: str = ""  # what token routing came to, in a sentence
    image_adapter: Path | None = None  # the file or folder, where that was trained
    controlnet: Path | None = None  # the folder, where that was trained

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
) -> TrainingResult:
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
    owned = lock_folder(config.run.output) if team.accelerator.is_main_process else nullcontext()
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
) -> TrainingResult:
    """The run proper, in a folder that is ours alone."""
    output, first = config.run.output, team.accelerator.is_main_process
    trackers = open_trackers(
        config.run.trackers if first else (),
        project="frisket",
        folder=output,
        settings=config.model_dump(mode="json"),
    )
    config, prepared = _prepare(config, team, prepared, progress, announce)
    references = _prepare_references(config, team, prepared, progress)
    # Before the denoiser is there: the text encoder has come and gone by then.
    previews = prepare_previews(config, family, source) if first else None
    denoiser = load_trainable(config, family, source, plan)
    # Before the base is put away: a ControlNet that begins from it copies its weights.
    net = open_net(config, family, denoiser, source) if has_control(config) else None
    memory_plan.apply(denoiser, plan, device=team.accelerator.device)
    team.wait()  # a preview's text and another disk's weights take their time
    shown_rows: ShownReferences | ShownControls | None = _connect_references(
        config, family, denoiser, references, previews
    )
    if net is not None:
        shown_rows = _connect_net(config, family, denoiser, net, prepared, previews)
    trainer = build_trainer(config, family, source, team, denoiser, prepared, shown_rows)
    validate = prepare_validation(config, trainer, prepared, shown_rows)
    resume(config, trainer, prepared)
    page = add_hooks(config, trainer, prepared, progress, previews, validate)
    if first:
        write_clip_keys(prepared, output)
    seconds = _run_trainer(config, trainer, trackers, team)
    if first:
        _save_result(config, trainer, prepared)
    peak, routing = measure_peak_mib(team.accelerator.device), ""
    if first:
        routing = summarise_routing(config, output / "metrics.jsonl")
        write_card(config, prepared, output / "README.md", routing=routing)
        if page is not None and routing:
            page.close({"tokens carried": routing})
    team.wait()
    return replace(
        _find_results(config),
        steps=trainer.done,
        seconds=seconds,
        peak_mib=peak,
        zero_weight_samples=trainer.zero_weight_samples,
        routing=routing,
    )


def _find_results(config: Config) -> TrainingResult:
    """What a run of this kind has written, its numbers still empty."""
    output, kind = config.run.output, config.model.train
    return TrainingResult(
        files_of(output / "lora.safetensors") if kind == "lora" else (),
        steps=0,
        seconds=0.0,
        peak_mib=0.0,
        zero_weight_samples=0,
        model=find_model(output) if kind == "all" else None,
        image_adapter=output / describe_result(config.image_adapter.kind).path
        if kind == "image_adapter"
        else None,
        controlnet=find_trained_net(output) if kind == "controlnet" else None,
    )


def _connect_references(
    config: Config,
    family: Family,
    denoiser: torch.nn.Module,
    references: ReferenceSet | None,
    previews: Previews | None,
) -> ShownReferences | None:
    """The references on the denoiser, in training and in previews; None where there are none."""
    if references is None:
        return None
    clip_references = connect_references(config, family, denoiser, references)
    if previews is not None:
        previews.make_method = clip_references.make_method
    return clip_references


def _connect_net(
    config: Config,
    family: Family,
    denoiser: torch.nn.Module,
    net: torch.nn.Module,
    prepared: Prepared,
    previews: Previews | None,
) -> ShownControls:
    """The ControlNet on the denoiser, in training and in previews, which show both sides."""
    preview = None
    if previews is not None:
        preview = lay_preview(prepared, previews.vae, previews.list_specs())
    controls = connect_controls(config, family, denoiser, net, preview)
    if previews is not None and preview is not None:
        previews.make_method, previews.plain_label = controls.make_method, "without control"
    return controls


def _prepare_references(
    config: Config, team: Team, prepared: Prepared, progress: Progress
) -> ReferenceSet | None:
    """What an image adapter is shown of the clips, cached; None where none is trained."""
    if not is_image_adapter_run(config):
        return None
    references: ReferenceSet = team.first(
        lambda: prepare_references(config, prepared, progress=progress)
    )
    return references


def _prepare(
    config: Config,
    team: Team,
    prepared: Prepared | None,
    progress: Progress,
    announce: Callable[[Config, Prepared], None],
) -> tuple[Config, Prepared]:
    """The configuration with its epochs counted out in steps, and the data, cached."""
    if prepared is None:

        def report_stage(stage: str, count: int, total: int) -> None:
            progress(stage, count, total, {})

        prepared = team.first(lambda: prepare(config, progress=report_stage))
    config = count_steps(config, prepared.items, processes=team.accelerator.num_processes)
    banner.check(config, prepared)
    if team.accelerator.is_main_process:
        for line in departures(config, prepared):
            log.warning("%s", line)
        write_banner(config, prepared, config.run.output)
        announce(config, prepared)
    return config, prepared


def _run_trainer(
    config: Config, trainer: Trainer, trackers: list[GeneralTracker], team: Team
) -> float:
    """Train to the end, the first process with a record of it; returns seconds of CPU time."""
    if team.accelerator.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # the text encoder's moment is over
    output, began = config.run.output, time.process_time()
    if team.accelerator.is_main_process:
        write_trained(config, output)
        with MetricsLog(output / "metrics.jsonl", step=trainer.done, trackers=trackers) as record:
            trainer.record = record
            trainer.run()
    else:
        trainer.run()
    return time.process_time() - began


def _save_result(config: Config, trainer: Trainer, prepared: Prepared) -> None:
    """Write what the run has trained into its folder: LoRA, image adapter, ControlNet or model."""
    if config.model.train != "all":
        save_adapter(config, trainer, prepared, config.run.output)
        return
    with trainer.eval_mode() as denoiser:
        write_model(config, trainer.family, denoiser, prepared, trainer.done)


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


def measure_peak_mib(device: torch.device) -> float:
    """Largest memory, MiB: reserved on the device while training, else resident of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024
