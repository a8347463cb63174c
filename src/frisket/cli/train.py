"""`frisket train`, apart from the recipe so that help needs no torch."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from frisket.cli.options import (
    FIRST,
    BatchSize,
    ConfigFile,
    NamedConfig,
    Overrides,
    Rank,
    Rate,
    Steps,
    add_short_options,
    escape_controls,
    read_config,
    report_stop,
    show_bar,
)
from frisket.cli.report.event_file import record_output

if TYPE_CHECKING:
    from frisket.recipes.train import TrainingResult


def train(
    config: ConfigFile = FIRST,
    named: NamedConfig = None,
    overrides: Overrides = None,
    steps: Steps = None,
    rank: Rank = None,
    lr: Rate = None,
    batch: BatchSize = None,
) -> None:
    """Train a LoRA (or all weights) under the masks, going on from the newest checkpoint."""
    short = {"run_steps": steps, "lora_rank": rank, "optimizer_lr": lr, "run_batch": batch}
    settings = read_config(named or config, add_short_options(overrides, **short))
    from frisket.recipes.train import train as run
    from frisket.runs.banner import show
    from frisket.runs.opening import opening

    for line in opening(settings):
        typer.echo(escape_controls(line), err=True)
    record_output("run", settings.run.output)
    try:
        with show_bar() as progress:
            result = run(settings, progress=progress, announce=show)
    except KeyboardInterrupt as stop:
        raise report_stop(stop) from stop
    outputs = _list_outputs(result)
    for name, path in outputs:
        record_output(name, path)
    files = " and ".join(str(path) for _, path in outputs)
    typer.echo(
        f"{files}: {result.steps} steps, {result.seconds:.0f} s of CPU time,"
        f" {result.peak_mib:.0f} MiB at most"
    )
    if result.routing:
        typer.echo(f"token routing: {result.routing}")


def _list_outputs(result: "TrainingResult") -> list[tuple[str, Path]]:
    """What a run has left, each with what it is called."""
    outputs = [("lora", path) for path in result.loras]
    for name, path in (
        ("model", result.model),
        ("image adapter", result.image_adapter),
        ("controlnet", result.controlnet),
    ):
        outputs += [(name, path)] if path is not None else []
    return outputs
