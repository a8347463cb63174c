"""`frisket convert`, apart from the recipe so that help needs no torch."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import typer

from frisket.recipes.model_options import TypedOptions, add_command

if TYPE_CHECKING:
    from frisket.recipes.config_calls import ConvertRequest

Bar = Callable[[], AbstractContextManager[Callable[..., None]]]


def add(app: typer.Typer, bar: Bar) -> None:
    """Add the command, with a progress bar of the caller's."""

    def convert(typed: TypedOptions) -> None:
        """Describe LoRA files; with -o convert, resize, scale, average, merge or extract them."""
        from frisket.recipes.config_requests import read_request  # noqa: PLC0415 - pydantic
        from frisket.recipes.convert import run  # noqa: PLC0415 - torch, only when asked for

        request = read_request(_load_request(), typed)
        with bar() as progress:
            lines = run(**request.model_dump(), progress=progress)
        typer.echo("\n".join(lines))

    add_command(app, "convert", convert, _load_request)


def _load_request() -> "type[ConvertRequest]":
    from frisket.recipes.config_calls import ConvertRequest  # noqa: PLC0415 - pydantic, when asked

    return ConvertRequest
