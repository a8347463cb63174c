"""What a run does besides training: checkpoints, validation, previews, the progress line."""

import logging
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from frisket.adapters import lora
from frisket.config.regions import names_of
from frisket.config.tree import Config
from frisket.data.cached.store import Cache
from frisket.data.loader import Loader
from frisket.families.base import layer_names
from frisket.families.experts import Experts
from frisket.losses.base import FACES
from frisket.progress import Progress
from frisket.runs.banner import rows
from frisket.runs.card import (
    describe_controlnet,
    describe_image_adapter,
    metadata_of,
    variant_of,
)
from frisket.runs.control.results import save_net
from frisket.runs.control.setup import is_control_run
from frisket.runs.control.showing import ShownControls
from frisket.runs.epochs import checkpoints_of
from frisket.runs.identity import (
    check_same_run,
    identity_of,
    read_identity,
    settings_of,
    tell_changes,
)
from frisket.runs.image_adapters.saving import save_image_adapter
from frisket.runs.image_adapters.setup import is_image_adapter_run
from frisket.runs.image_adapters.showing import ShownReferences
from frisket.runs.prepare import Prepared
from frisket.runs.run_page import RunPage
from frisket.runs.sampling.previews import Previews
from frisket.training.checkpoint import CheckpointError, read, read_manifest
from frisket.training.plan import Hooks
from frisket.training.trainer import Trainer
from frisket.training.validate import Validator

log = logging.getLogger(__name__)

# What a run of each kind leaves.
NAMES = {"all": "model", "image_adapter": "image adapter", "controlnet": "ControlNet"}


def check_resumable(config: Config) -> None:
    """Refuse what the newest checkpoint cannot be gone on to, as far as it is known before work.

    CheckpointError for another run (but for its data, which `resume` looks at), or for fewer steps
    than are done.
    """
    newest = checkpoints_of(config).newest() if config.run.resume else None
    if newest is None:
        return
    manifest = read_manifest(newest)
    identity = read_identity(config, Cache(config.run.cache).folder)
    check_same_run(manifest.get("run", {}), identity, newest)
    if not config.run.epochs and int(manifest["step"]) > config.run.steps:
        raise CheckpointError(
            f"run.steps is {config.run.steps}, but {newest} is of step {manifest['step']}; set"
            f" run.steps to {manifest['step']} or more, or choose another run.output"
        )


def resume(config: Config, trainer: Trainer, prepared: Prepared) -> None:
    """Load the newest checkpoint into the trainer, if there is one."""
    store = checkpoints_of(config)
    if not config.run.resume:
        trainer.team.first(store.set_aside if trainer.accelerator.is_main_process else _nothing)
    newest = store.newest() if config.run.resume else None
    if newest is None:
        return
    state, manifest = read(newest)
    check_same_run(manifest.get("run", {}), identity_of(config, prepared), newest)
    settings = settings_of(config, trainer.accelerator.num_processes)
    trainer.load_state_dict(state)
    if not trainer.accelerator.is_main_process:
        return
    if trainer.done == config.run.steps:
        log.info(
            "this run is finished (%d steps): its %s is written again, nothing is trained; raise"
            " run.%s to go on, or start afresh with run.resume = false",
            trainer.done,
            NAMES.get(config.model.train, "LoRA"),
            "epochs" if config.run.epochs else "steps",
        )
    else:
        log.info("going on after step %d (%s)", trainer.done, newest)
    tell_changes(manifest.get("settings", {}), settings)


def _nothing() -> None:
    """What the other processes do meanwhile."""


def add_hooks(
    config: Config,
    trainer: Trainer,
    prepared: Prepared,
    progress: Progress,
    previews: Previews | None,
    validate: Callable[[int], None] | None,
) -> RunPage | None:
    """Saving, validation, previews and the progress line; only their rhythm but in the first.

    Returns the page that the first process keeps.
    """
    run = config.run
    hooks = Hooks(
        save_every=run.save_every,
        validate_every=config.validation.every,
        preview_every=config.preview.every,
        save_every_epochs=run.save_every_epochs,
        validate_every_epochs=config.validation.every_epochs,
        preview_every_epochs=config.preview.every_epochs,
    )
    trainer.hooks = hooks
    if not trainer.accelerator.is_main_process:
        return None
    store = checkpoints_of(config)
    manifest = {
        "run": identity_of(config, prepared),
        "settings": settings_of(config, trainer.accelerator.num_processes),
    }

    def save(step: int) -> None:
        state, about = trainer.state_dict(), {**manifest, "rows": trainer.rows}
        if config.model.train == "all":
            # No model beside it: the weights would lie on the disk twice.
            weights = state.pop("adapter")
            store.save(step, state, about, weights=weights)
            return
        folder = store.save(step, state, about)
        try:
            save_adapter(config, trainer, prepared, folder)
        except Exception as error:  # whatever it is, it costs no training
            log.error(
                "the adapter's file of step %d could not be written (%s); the training state is"
                " safe in %s, and training goes on",
                step,
                error,
                folder,
            )

    page = RunPage(run.output, run.steps, rows(config, prepared))
    page.recall(run.output / "metrics.jsonl", trainer.done)

    def report(step: int, values: Mapping[str, float]) -> None:
        progress("training", step, run.steps, values)
        page.step(step, values)
        if step >= run.steps:
            page.write(done=True)

    hooks.save, hooks.progress = save, report
    if validate is not None:
        hooks.validate = validate
    if previews is not None:
        hooks.preview = partial(_draw_preview, trainer, previews, page)
    return page


def _draw_preview(trainer: Trainer, previews: Previews, page: RunPage, step: int) -> None:
    """A grid, its row in metrics.jsonl where faces are looked for, and the page that shows it."""
    with trainer.eval_mode() as denoiser:
        path = previews(step, denoiser)
    log.info("preview of step %d: %s", step, path)
    if previews.faces is not None and trainer.record is not None:
        trainer.record.write(step, {"preview": {"identity": previews.faces.record}})
    page.preview(path)


def save_adapter(config: Config, trainer: Trainer, prepared: Prepared, folder: Path) -> None:
    """Write the adapter into a folder as it is to be used.

    A LoRA in the format asked for, `lora.safetensors` or a file for each expert; an image adapter
    in the public layout; a ControlNet as diffusers' folder.
    """
    family = trainer.family
    with trainer.eval_mode() as ready:
        if is_image_adapter_run(config):
            metadata = describe_image_adapter(config, prepared, trainer.done)
            save_image_adapter(ready, folder, metadata)
            return
        if is_control_run(config):
            save_net(ready, folder, describe_controlnet(config, prepared, trainer.done))
            return
        lora.save(
            ready,
            folder / "lora.safetensors",
            metadata_of(config, prepared, trainer.done),
            prefix=family.lora_prefix,
            names=layer_names(family, variant_of(config)),
            form=config.lora.format,
        )


def prepare_validation(
    config: Config,
    trainer: Trainer,
    prepared: Prepared,
    shown_rows: ShownReferences | ShownControls | None = None,
) -> Callable[[int], None] | None:
    """Scores of base and tuned model on the held-out clips, into metrics.jsonl; None without such.

    An image adapter is shown each clip's own reference, a ControlNet each clip's control in full.
    Beside a frozen ControlNet the base is the base under control.

    To be called before the run goes on from a checkpoint: where all weights are trained the base is
    there no longer, so that its predictions are taken first and kept.
    """
    if not prepared.held or not trainer.accelerator.is_main_process:
        return None
    validator = Validator(
        family=trainer.family,
        objective=trainer.objective,
        batches=Loader(prepared, batch=1, seed=config.run.seed).collate_held(),
        regions=names_of(config),
        t=levels_of(config, trainer),
        seed=config.run.seed,
        condition=nullcontext if shown_rows is None else shown_rows.show,
        faces=trainer.faces,
        comparing={name: term for name, (term, _) in trainer.terms.items() if FACES in term.needs},
    )
    base: dict[str, float] = {}
    # As it trains: a base in float32 would be judged in another precision than it learns in.
    if config.model.train == "all":
        with trainer.eval_mode() as denoiser, trainer.accelerator.autocast():
            base.update(validator.base(denoiser))

    def validate(step: int) -> None:
        with trainer.eval_mode() as denoiser, trainer.accelerator.autocast():
            if not base:
                base.update(validator.base(denoiser))
            tuned = validator.score(denoiser)
        if trainer.record is not None:
            scores = {"base": dict(base), "tuned": dict(tuned)}
            trainer.record.write(step, {"validation": scores})

    return validate


def levels_of(config: Config, trainer: Trainer) -> tuple[float, ...]:
    """Noise levels of the validation, without those of experts that are not trained."""
    denoiser = trainer.unwrapped
    if not isinstance(denoiser, Experts):
        return config.validation.t
    ranges = tuple(denoiser.ranges.values())
    levels = tuple(
        t
        for t in config.validation.t
        if any(low <= t < high or t == high == 1 for low, high in ranges)
    )
    return levels or tuple((low + high) / 2 for low, high in ranges)
