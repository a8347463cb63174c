"""What a run does besides training: checkpoints, validation, previews, the progress line."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from frisket.adapters import lora
from frisket.data.loader import Loader
from frisket.families.base import layer_names
from frisket.families.experts import Experts
from frisket.recipes.card import metadata_of, variant_of
from frisket.recipes.config import Config
from frisket.recipes.prepare import Prepared
from frisket.recipes.previews import Previews
from frisket.recipes.regions import names_of
from frisket.training.checkpoint import Checkpoints, read, same_run
from frisket.training.trainer import Hooks, Trainer
from frisket.training.validate import Validator

log = logging.getLogger(__name__)
Progress = Callable[[str, int, int, Mapping[str, float]], None]


def fingerprint(config: Config, prepared: Prepared) -> dict[str, Any]:
    """What may not change between the two halves of a resumed run."""
    fixed = config.model_dump(
        mode="json", include={"lora", "losses", "curve", "regions", "timesteps"}
    )
    fixed["optimizer"] = config.optimizer.model_dump(mode="json")
    fixed["batch"], fixed["seed"], fixed["steps"] = (
        config.run.batch,
        config.run.seed,
        config.run.steps,
    )
    fixed["family"], fixed["variant"] = config.model.family, config.model.variant
    fixed["data"] = prepared.digest
    return fixed


def checkpoints_of(config: Config) -> Checkpoints:
    """Where a run keeps its checkpoints."""
    return Checkpoints(config.run.output / "checkpoints", config.run.keep)


def resume(config: Config, trainer: Trainer, prepared: Prepared) -> None:
    """Load the newest checkpoint into the trainer, if there is one."""
    store = checkpoints_of(config)
    if not config.run.resume and trainer.accelerator.is_main_process:
        store.set_aside()
    newest = store.newest() if config.run.resume else None
    if newest is not None:
        state, manifest = read(newest)
        same_run(manifest["run"], fingerprint(config, prepared), newest)
        bare = trainer.accelerator.unwrap_model(trainer.denoiser)
        parameters = lora.trainable(bare)
        for name, value in state["adapter"].items():
            parameters[name].data.copy_(value)
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.schedule.load_state_dict(state["schedule"])
        if trainer.average is not None:
            trainer.average.load_state_dict(state["average"])
        if trainer.accelerator.scaler is not None:
            trainer.accelerator.scaler.load_state_dict(state["scaler"])
        trainer.done, trainer.empty = int(manifest["step"]), int(state["empty"])
        log.info("going on after step %d (%s)", trainer.done, newest)


def add_hooks(
    config: Config,
    trainer: Trainer,
    prepared: Prepared,
    progress: Progress,
    previews: Previews | None,
) -> None:
    """Saving, validation, previews and the progress line."""
    run = config.run
    store, identity = checkpoints_of(config), fingerprint(config, prepared)

    def save(step: int) -> None:
        bare = trainer.accelerator.unwrap_model(trainer.denoiser)
        scaler = trainer.accelerator.scaler
        state = {
            "adapter": {name: value.detach().cpu() for name, value in lora.trainable(bare).items()},
            "optimizer": trainer.optimizer.state_dict(),
            "schedule": trainer.schedule.state_dict(),
            "average": trainer.average.state_dict() if trainer.average is not None else {},
            "scaler": scaler.state_dict() if scaler is not None else {},
            "empty": trainer.empty,
        }

        def adapter(path: Path) -> None:
            save_adapter(config, trainer, prepared, path)

        store.save(step, state, {"run": identity}, adapter)

    def report(step: int, values: Mapping[str, float]) -> None:
        progress("training", step, run.steps, values)

    hooks = Hooks(save=save, progress=report, save_every=run.save_every)
    if prepared.held:
        hooks.validate = validation(config, trainer, prepared)
        hooks.validate_every = config.validation.every
    if previews is not None:

        def preview(step: int) -> None:
            with trainer.looking() as denoiser:
                previews(step, denoiser)

        hooks.preview, hooks.preview_every = preview, config.preview.every
    trainer.hooks = hooks


def save_adapter(config: Config, trainer: Trainer, prepared: Prepared, path: Path) -> None:
    """Write the adapter as it is to be used, in the format asked for; a file for each expert."""
    family = trainer.family
    with trainer.looking() as ready:
        lora.save(
            ready,
            path,
            metadata_of(config, prepared, trainer.done),
            prefix=family.lora_prefix,
            names=layer_names(family, variant_of(config)),
            form=config.lora.format,
        )


def validation(config: Config, trainer: Trainer, prepared: Prepared) -> Callable[[int], None]:
    """Scores of base and tuned model on the held-out clips, into metrics.jsonl."""
    validator = Validator(
        family=trainer.family,
        objective=trainer.objective,
        batches=Loader(prepared, batch=1, seed=config.run.seed).held(),
        regions=names_of(config),
        t=levels_of(config, trainer),
        seed=config.run.seed,
    )
    base: dict[str, float] = {}

    def validate(step: int) -> None:
        with trainer.looking() as denoiser:
            if not base:
                base.update(validator.base(denoiser))
            tuned = validator.score(denoiser)
        if trainer.record is not None:
            scores = {"base": dict(base), "tuned": dict(tuned)}
            trainer.record.write(step, {"validation": scores})

    return validate


def levels_of(config: Config, trainer: Trainer) -> tuple[float, ...]:
    """Noise levels of the validation, without those of experts that are not trained."""
    bare = trainer.accelerator.unwrap_model(trainer.denoiser)
    if not isinstance(bare, Experts):
        return config.validation.t
    ranges = tuple(bare.ranges.values())
    held = tuple(
        t
        for t in config.validation.t
        if any(low <= t < high or t == high == 1 for low, high in ranges)
    )
    return held or tuple((low + high) / 2 for low, high in ranges)
