"""`frisket pack`, apart from the recipe so that help needs no torch."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import typer

from frisket.recipes.model_options import TypedOptions, add_command

if TYPE_CHECKING:
    from frisket.recipes.config_calls import PackRequest

Bar = Callable[[], AbstractContextManager[Callable[..., None]]]


def add(app: typer.Typer, bar: Bar) -> None:
    """Add the command, with a progress bar of the caller's."""

    def pack(typed: TypedOptions) -> None:
        """Store a data set another way, byte for byte: files, manifest, tables, tar shards."""
        from frisket.data.format_base import Columns  # noqa: PLC0415 - only when asked for
        from frisket.recipes.config_requests import read_request  # noqa: PLC0415 - pydantic
        from frisket.recipes.pack import Asked  # noqa: PLC0415 - only when asked for
        from frisket.recipes.pack import pack as run  # noqa: PLC0415 - the same

        options = read_request(_load_request(), typed).model_dump()
        columns = Columns(**{name: options.pop(name) for name in COLUMNS})
        with bar() as progress:
            lines = run(Asked(columns=columns, **options), progress)
        typer.echo("\n".join(lines))

    add_command(app, "pack", pack, _load_request)


COLUMNS = ("image", "caption", "name", "masks")


def _load_request() -> "type[PackRequest]":
    from frisket.recipes.config_calls import PackRequest  # noqa: PLC0415 - pydantic, when asked

    return PackRequest
