"""How long a run is: steps, or epochs of what was prepared, and its learning rate over them."""

from collections.abc import Sequence

from frisket.config.provenance import ConfigError
from frisket.config.tree import Config
from frisket.data.records import Item
from frisket.data.schedule import Schedule
from frisket.training.checkpoint import CheckpointError, Checkpoints, read_manifest
from frisket.training.schedules import Rates


def epoch_of(config: Config, items: Sequence[Item]) -> int:
    """Batches, of all processes together, in one pass over the prepared clips."""
    return Schedule(items, batch=config.run.batch, seed=config.run.seed).length


def checkpoints_of(config: Config) -> Checkpoints:
    """Where a run keeps its checkpoints."""
    return Checkpoints(config.run.output / "checkpoints", config.run.keep)


def count_steps(config: Config, items: Sequence[Item], *, processes: int = 1) -> Config:
    """The configuration with `run.steps` as many as the epochs asked for need.

    The last step may reach into the next epoch, where the batches of all epochs are no multiple of
    those in a step. A run that is gone on with counts the batches it has had, whatever number made
    a step then. The only place where steps depend on the data; without `run.epochs` nothing changes
    but that the learning rate is looked at. ConfigError where that does not fit, CheckpointError
    where more is trained already.
    """
    if config.run.epochs:
        steps = _steps(config, epoch_of(config, items), processes)
        config = config.model_copy(update={"run": config.run.model_copy(update={"steps": steps})})
    rates_of(config)
    return config


def _steps(config: Config, epoch: int, processes: int) -> int:
    """Steps until all epochs are through, those of the newest checkpoint with them."""
    a_step, wanted = config.optimizer.accumulate * processes, config.run.epochs * epoch
    newest = checkpoints_of(config).newest() if config.run.resume else None
    if newest is None:
        return -(-wanted // a_step)
    manifest = read_manifest(newest)
    done = int(manifest["step"])
    rows = int(manifest.get("rows", done * a_step))
    if rows >= wanted + a_step:
        raise CheckpointError(
            f"run.epochs is {config.run.epochs}, but {newest} is of epoch {rows / epoch:.3g}; set"
            f" run.epochs to {-(-rows // epoch)} or more, or choose another run.output"
        )
    return done + max(0, -(-(wanted - rows) // a_step))


def rates_of(config: Config) -> Rates:
    """The learning rate of a run whose steps are known; ConfigError where it does not fit them."""
    chosen = config.optimizer
    try:
        return Rates(
            kind=chosen.schedule,
            steps=config.run.steps,
            warmup=chosen.warmup,
            final=chosen.final,
            cycles=chosen.cycles,
            power=chosen.power,
            decay=chosen.decay,
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error


def describe_length(config: Config, items: Sequence[Item], *, processes: int = 1) -> str:
    """Steps and epochs in words: `12 epochs of 300 batches = 3,600 steps`."""
    epoch, steps = epoch_of(config, items), config.run.steps
    rows = steps * config.optimizer.accumulate * processes
    a_step = f", {config.optimizer.accumulate * processes} a step"
    of = f"of {epoch:,} batches{a_step if config.optimizer.accumulate * processes > 1 else ''}"
    if config.run.epochs:
        return f"{config.run.epochs} epochs {of} = {steps:,} steps (run.epochs decides)"
    return f"{steps:,} steps = {rows / epoch:.3g} epochs {of}"
