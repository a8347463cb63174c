"""`frisket prepare`, apart from the recipe so that help needs no torch."""

import typer

from frisket.cli.options import (
    FIRST,
    ConfigFile,
    NamedConfig,
    Overrides,
    escape_controls,
    read_config,
    show_bar,
)


def prepare(
    config: ConfigFile = FIRST, named: NamedConfig = None, overrides: Overrides = None
) -> None:
    """Encode clips, captions and masks once, into the cache."""
    settings = read_config(named or config, overrides)
    from frisket.runs.banner import show
    from frisket.runs.epochs import count_steps
    from frisket.runs.opening import opening
    from frisket.runs.prepare import prepare as run

    for line in opening(settings):
        typer.echo(escape_controls(line), err=True)
    with show_bar() as progress:
        prepared = run(settings, progress=progress)
    show(count_steps(settings, prepared.items), prepared)
