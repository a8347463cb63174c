"""`frisket doctor`, apart from the recipe so that help needs no torch."""

from pathlib import Path
from typing import Annotated

import typer

from frisket.cli.options import NamedConfig, Overrides

COLOURS = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "missing": typer.colors.RED}


def doctor(
    config: Annotated[Path | None, typer.Argument(help="A config file to check as well.")] = None,
    named: NamedConfig = None,
    overrides: Overrides = None,
) -> None:
    """Say what this machine has, what is missing, and whether a config fits it; and the fix."""
    from frisket.recipes.doctor import doctor as run

    findings = run(config or named, overrides or ())
    wide = max(len(finding.about) for finding in findings)
    for finding in findings:
        verdict = typer.style(f"{finding.verdict:>7}", fg=COLOURS[finding.verdict])
        typer.echo(f"{verdict}  {finding.about:<{wide}}  {finding.message}")
        if finding.fix:
            typer.echo(f"{'':7}  {'':<{wide}}  fix: {finding.fix}")
    missing = sum(finding.verdict == "missing" for finding in findings)
    typer.echo(f"\n{missing} missing." if missing else "\nAll that is needed is here.")
    if missing:
        raise typer.Exit(1)
