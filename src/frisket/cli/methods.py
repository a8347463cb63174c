"""`frisket methods`: what keeps a face, person or thing while sampling, and what that needs."""

import json
from pathlib import Path
from typing import Annotated

import typer

from frisket.cli.options import (
    FIRST,
    ConfigFile,
    NamedConfig,
    Overrides,
    read_config,
    write_text,
)
from frisket.cli.report.event_file import record_output


def show_methods(
    family: Annotated[str, typer.Option(help="Only what runs on this model family.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: also why a method does not run.")
    ] = False,
    reference: Annotated[
        Path | None, typer.Option(help="Write the reference page (Markdown) here instead.")
    ] = None,
) -> None:
    """List methods that keep a face, person or thing: models, files, licences, options."""
    from frisket.recipes.methods.overview import list_methods
    from frisket.recipes.methods.tables import write_listing, write_page

    overview = list_methods(family)
    if reference is not None:
        write_text(reference, write_page(overview))
    elif as_json:
        typer.echo(json.dumps(overview.write_tree(), indent=1, ensure_ascii=False))
    else:
        typer.echo(write_listing(overview))


def measure_name_norms(
    config: ConfigFile = FIRST,
    named: NamedConfig = None,
    *,
    names: Annotated[Path, typer.Option(help="Names of people, one a line.")],
    source: Annotated[
        Path, typer.Option(help="UniID's folder, as --method-source takes it; written into.")
    ],
    overrides: Overrides = None,
) -> None:
    """Measure people's names by the model's text encoders, for UniID's norms = "names"."""
    settings = read_config(named or config, overrides)
    from frisket.recipes.methods.name_norms import measure_names

    path = measure_names(settings, names, source)
    record_output("norms", path)
    typer.echo(f'{path}: sample with --method-option norms="names"')
