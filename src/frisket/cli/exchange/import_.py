"""The options of `frisket import`, apart from the recipe so that help needs no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from frisket.importers.base import IMPORT_FORMATS
from frisket.media.paths import replacing


def command() -> Callable[..., None]:
    """The command, to be added under the name `import`."""
    trainers = ", ".join(IMPORT_FORMATS.names())

    def import_(
        sources: Annotated[
            list[Path] | None,
            typer.Argument(
                metavar="SOURCE...",
                help="Another trainer's configuration or data folder; all files of the run.",
            ),
        ] = None,
        output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
            "frisket.toml"
        ),
        trainer: Annotated[
            str, typer.Option("--from", metavar="TRAINER", help=f"{trainers}; else detected.")
        ] = "",
        family: Annotated[str, typer.Option(help="Model family, where the source is silent.")] = "",
        variant: Annotated[str, typer.Option(help="Its variant, where the source is silent.")] = "",
        command: Annotated[
            int | None,
            typer.Option(min=1, help="Which command of a script or notebook, from 1."),
        ] = None,
        reference: Annotated[
            Path | None, typer.Option(help="Write the page of all known options here instead.")
        ] = None,
    ) -> None:
        """Write a config from another trainer's, with what became of each of its options."""
        if reference is not None:
            from frisket.importers import reference as reference_module

            with replacing(reference) as draft:
                draft.write_text(reference_module.write_reference(), encoding="utf-8")
            return
        if not sources:
            raise typer.BadParameter(f"name a configuration or data folder of: {trainers}")
        from frisket.recipes.import_ import run

        lines = run(
            sources, output, trainer=trainer, family=family, variant=variant, command=command
        )
        for line in lines:
            typer.echo(line)

    return import_
