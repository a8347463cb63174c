"""`frisket name-norms`, apart from the recipe so that help needs no torch."""

from pathlib import Path
from typing import Annotated

import typer

from frisket.cli.options import FIRST, ConfigFile, NamedConfig, Overrides, read_config
from frisket.cli.report.event_file import record_output


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
