"""`frisket train`, apart from the recipe so that help needs no torch."""

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
    for file in result.loras:
        record_output("lora", file)
    if result.model is not None:
        record_output("model", result.model)
    if result.image_adapter is not None:
        record_output("image adapter", result.image_adapter)
    if result.controlnet is not None:
        record_output("controlnet", result.controlnet)
    others = [result.image_adapter or result.controlnet or result.model]
    files = " and ".join(map(str, result.loras or others))
    typer.echo(
        f"{files}: {result.steps} steps, {result.seconds:.0f} s of CPU time,"
        f" {result.peak_mib:.0f} MiB at most"
    )
    if result.routing:
        typer.echo(f"token routing: {result.routing}")
