"""The options of `frisket families`, apart from the recipe so that help needs no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer


def command(write: Callable[[Path, str], None]) -> Callable[..., None]:
    """The command; `write` puts a text into a file."""

    def families(
        name: Annotated[str, typer.Argument(help="One family, with the sizes of its models.")] = "",
        reference: Annotated[
            Path | None, typer.Option(help="Write the reference page (Markdown) here instead.")
        ] = None,
    ) -> None:
        """List model families and variants: what they make and see, and where they come from."""
        from frisket.families import listing as shelf

        if reference is None:
            typer.echo(shelf.listing(name))
        else:
            write(reference, shelf.page())

    return families
