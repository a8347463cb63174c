"""`frisket quickstart`, apart from the recipe so that help needs no torch."""

import json
from pathlib import Path
from typing import Annotated

import typer

from frisket.cli.options import Overrides, show_bar
from frisket.cli.report.event_file import record_output


def quickstart(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path(
        "quickstart"
    ),
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many times all is trained anew; by default once.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="As the table of the README: twice, twice as long.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one a core, 4 at most.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """See that the mask works: train four ways on a little data set, compare, write report.html."""
    from frisket.recipes.quickstart import FULL
    from frisket.recipes.quickstart import quickstart as run

    with show_bar() as progress:
        report = run(
            output,
            seeds=seeds or (2 if full else 1),
            workers=workers,
            overrides=[*(FULL if full else ()), *(overrides or ())],
            progress=progress,
        )
    record_output("page", report)
    contents = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    typer.echo(contents["verdict"])
    for claim in contents["claims"]:
        answer = "yes" if claim["met"] else "NO "
        typer.echo(f"  {answer} {claim['measured']:>6}  {claim['sentence']}")
    typer.echo(f"Open {report}")
