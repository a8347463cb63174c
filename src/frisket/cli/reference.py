"""`frisket schema` and `frisket families`: what a config may say, and of which models."""

from pathlib import Path
from typing import Annotated

import typer

from frisket.cli.options import write_text


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; by default it is printed.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Also write the reference page (Markdown) here.")
    ] = None,
) -> None:
    """Write the JSON schema of the configuration (for editors)."""
    from frisket.config import schema as schema_module

    if output is None:
        typer.echo(schema_module.text(), nl=False)
    else:
        write_text(output, schema_module.text())
    if reference is not None:
        write_text(reference, schema_module.reference())


def families(
    name: Annotated[str, typer.Argument(help="One family, with the sizes of its models.")] = "",
    reference: Annotated[
        Path | None, typer.Option(help="Write the reference page (Markdown) here instead.")
    ] = None,
) -> None:
    """List model families and variants: what they make and see, and where they come from."""
    from frisket.families import listing as listing_module

    if reference is None:
        typer.echo(listing_module.listing(name))
    else:
        write_text(reference, listing_module.page())
