"""`frisket pack`, apart from the recipe so that help needs no torch."""

from typing import TYPE_CHECKING

import typer

from frisket.cli.model_options import TypedOptions, add_command
from frisket.progress import Bar

if TYPE_CHECKING:
    from frisket.config.calls import PackRequest


def add(app: typer.Typer, bar: Bar) -> None:
    """Add the command, with a progress bar of the caller's."""

    def pack(typed: TypedOptions) -> None:
        """Store a data set another way, byte for byte: files, manifest, tables, tar shards."""
        from frisket.config.load import read_request
        from frisket.data.format_base import Columns
        from frisket.recipes.pack import PackOptions
        from frisket.recipes.pack import pack as run

        options = read_request(_load_request(), typed).model_dump()
        columns = Columns(**{name: options.pop(name) for name in COLUMNS})
        with bar() as progress:
            lines = run(PackOptions(columns=columns, **options), progress)
        typer.echo("\n".join(lines))

    add_command(app, "pack", pack, _load_request)


COLUMNS = ("image", "caption", "name", "masks")


def _load_request() -> "type[PackRequest]":
    from frisket.config.calls import PackRequest

    return PackRequest
