"""`frisket init`, apart from the recipe so that help needs no torch."""

from pathlib import Path
from typing import Annotated

import typer

from frisket.cli.options import FIRST
from frisket.cli.report.event_file import record_output


def init(
    folder: Annotated[Path, typer.Argument(help="Folder of clips (and masks, captions).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = FIRST,
    family: Annotated[str, typer.Option(help="Model family; empty chooses by the clips.")] = "",
    variant: Annotated[str, typer.Option(help="Its variant; empty chooses by the clips.")] = "",
    preset: Annotated[
        str,
        typer.Option(help="character, object, style or motion: settings that were measured."),
    ] = "",
) -> None:
    """Write a commented config for a folder of clips."""
    from frisket.recipes.init.write import init as run

    for line in run(folder, output, family=family, variant=variant, preset=preset):
        typer.echo(line)
    record_output("config", output)
    typer.echo(f"\nWrote {output}. Look at the masks next: frisket inspect {output}")
