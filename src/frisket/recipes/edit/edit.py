"""`frisket edit`: learn one clip by its mask, then sample it behind an edited first frame."""

import logging
from dataclasses import dataclass
from pathlib import Path

from frisket.config.editing.request import VideoEditRequest
from frisket.config.load import ConfigError, check
from frisket.config.tree import Config
from frisket.progress import Progress
from frisket.recipes.train import make_output, train
from frisket.runs.editing.plan import check_model, read_material
from frisket.runs.editing.sampling import build_edit_specs, sample_edit, write_edit
from frisket.runs.editing.stages import (
    EditStage,
    build_stages,
    compute_key,
    read_state,
    refuse_settings,
    refuse_strangers,
    set_aside,
    write_material,
    write_state,
)
from frisket.runs.refusals import stop_if_refused
from frisket.runs.sampling.gallery import new_folder
from frisket.runs.sampling.sampler import free
from frisket.training.lock import lock_folder
from frisket.training.memory.out_of_memory import room_for

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EditedVideo:
    """What an edit leaves: its clips, one a seed, and the LoRA of its last stage."""

    clips: tuple[Path, ...]
    lora: Path


def edit(
    request: VideoEditRequest, config: Config, *, progress: Progress = lambda *_: None
) -> EditedVideo:
    """Run the stages that are not done yet, going on where one was stopped; sample the edit.

    `config` says how is trained: model, memory, optimizer, LoRA. Everything that can be refused is
    refused before anything is written, but for `sample_only` of other inputs, which is seen when
    `data/` is written. Raises ConfigError and BadMedia for what does not go
    together, WeightsNotFound, what `train` raises, and KeyboardInterrupt where it was stopped.
    """
    refuse_settings(config, request)
    refuse_strangers(request)
    family, source = check_model(config)
    material = read_material(request, family.variants[source.variant])
    stages = build_stages(config, request, material)
    for stage in stages:
        check(stage.config)
        stop_if_refused(stage.config)
    specs = build_edit_specs(request, material, family, source.variant)
    make_output(request.output)
    with lock_folder(request.output):
        write_material(material, request.output.absolute() / "data")
        for stage in stages:
            run_stage(stage, train_it=not request.stages.sample_only, progress=progress)
            free(source)  # the denoiser, before the next models are loaded
        with room_for("generate"):
            clips = sample_edit(
                stages[-1].config,
                family,
                source,
                material,
                specs,
                stages[-1].lora,
                strength=request.sampling.strength,
                progress=progress,
            )
        folder = new_folder(None, request.output / "samples")
        return EditedVideo(
            write_edit(request, material, clips, stages[-1], folder), stages[-1].lora
        )


def run_stage(
    stage: EditStage, *, train_it: bool = True, progress: Progress = lambda *_: None
) -> None:
    """Train one stage to its end, unless it is there; one of other data or settings begins anew.

    ConfigError where it is not there and nothing is to be trained.
    """
    key, steps = compute_key(stage), stage.config.run.steps
    state = read_state(stage, key)
    if state.is_same and state.steps == steps:
        log.info("%s: trained before, %d steps (%s)", stage.name, steps, stage.folder)
        return
    if not train_it:
        how_far = (
            "not of these inputs" if not state.is_same else f"at {state.steps} of {steps} steps"
        )
        raise ConfigError(
            f"--sample-only: the {stage.name} stage in {stage.folder} is {how_far}; leave"
            " --sample-only out to train it, or give the inputs it was trained with"
        )
    if state.is_same and state.steps > steps:
        option = "--steps" if stage.name == "motion" else "--appearance-steps"
        raise ConfigError(
            f"{option} {steps}: the {stage.name} stage in {stage.folder} has {state.steps} steps"
            f" already; give {option} {state.steps} or more, or another -o"
        )
    config = stage.config
    if not state.is_same:
        if any(stage.folder.glob("checkpoints/*")):
            log.info(
                "%s: begins anew, its clip, mask, pictures or settings are others than before",
                stage.name,
            )
        set_aside(stage)
        config = config.model_copy(update={"run": config.run.model_copy(update={"resume": False})})
    log.info("%s: %d steps (%s)", stage.name, steps, stage.folder)
    write_state(stage, key, 0)
    train(config, progress=progress)
    write_state(stage, key, steps)
