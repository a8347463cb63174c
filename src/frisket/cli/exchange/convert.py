"""`frisket convert`, apart from the recipe so that help needs no torch."""

from typing import TYPE_CHECKING

import typer

from frisket.cli.model_options import TypedOptions, add_command
from frisket.progress import Bar

if TYPE_CHECKING:
    from frisket.config.calls import ConvertRequest


def add(app: typer.Typer, bar: Bar) -> None:
    """Add the command, with a progress bar of the caller's."""

    def convert(typed: TypedOptions) -> None:
        """Describe LoRA files; with -o convert, resize, scale, average, merge or extract them."""
        from frisket.config.load import read_request
        from frisket.recipes.convert import run

        request = read_request(_load_request(), typed)
        with bar() as progress:
            lines = run(**request.model_dump(), progress=progress)
        typer.echo("\n".join(lines))

    add_command(app, "convert", convert, _load_request)


def _load_request() -> "type[ConvertRequest]":
    from frisket.config.calls import ConvertRequest

    return ConvertRequest
