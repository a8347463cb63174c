"""`frisket explain`, apart from the recipe so that help needs no torch."""

from pathlib import Path
from typing import Annotated

import typer

from frisket.cli.options import (
    FIRST,
    ConfigFile,
    NamedConfig,
    Overrides,
    escape_controls,
    write_text,
)
from frisket.cli.report.event_file import record_output


def explain(
    config: ConfigFile = FIRST,
    named: NamedConfig = None,
    overrides: Overrides = None,
    preset: Annotated[str, typer.Option(help="Short for --set preset=NAME.")] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write it as a config file, every value commented."),
    ] = None,
) -> None:
    """Show every setting in force, where it comes from, and what a preset has measured for it."""
    from frisket.recipes.provenance.values import explain_config
    from frisket.recipes.provenance.write import write_lines, write_toml

    settings = [f"preset={preset}"] if preset else []
    explanation = explain_config(named or config, [*settings, *(overrides or ())])
    if output is None:
        for line in write_lines(explanation):
            typer.echo(escape_controls(line))
        return
    write_text(output, write_toml(explanation))
    record_output("config", output)
    for note in explanation.notes:
        typer.echo(escape_controls(note))
    typer.echo(f"Wrote {output}")
