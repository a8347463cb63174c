"""`frisket inspect`, apart from the recipe so that help needs no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frisket.cli.options import FIRST, ConfigFile, NamedConfig, Overrides, read_config, show_bar
from frisket.cli.report.event_file import record_output

if TYPE_CHECKING:
    from frisket.config.tree import Config
    from frisket.inspection.findings import Finding


def inspect(
    config: ConfigFile = FIRST,
    named: NamedConfig = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; by default run.output/inspect.")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="First mend what needs no guess, keeping the old files.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="With --fix or --plan: this clip alone; may be repeated."),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what --fix would mend, and stop there.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 on warnings too, not on errors alone.")
    ] = False,
    vae: Annotated[
        bool, typer.Option("--vae", help="Load the VAE and measure how far masks leak.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one a core, 8 at most.")
    ] = None,
) -> None:
    """Show every clip with its mask and weights, and what looks wrong (PNG and HTML).

    Exits with 0 where nothing must be mended, 1 where there are errors.
    """
    if only and not (fix or plan):
        raise typer.BadParameter("--only goes with --fix or --plan")
    settings = read_config(named or config, overrides)
    from frisket.recipes.inspect import inspect as run

    folder = output or settings.run.output / "inspect"
    if plan:
        _print_plan(settings, only)
        return
    if fix:
        _print_fixes(settings, folder, only)
    with show_bar() as progress:
        findings = run(settings, folder, progress=progress, workers=workers, vae=vae)
    record_output("page", folder / "index.html")
    _print_findings(findings, folder)
    stops = ("error", "warning") if strict else ("error",)
    if any(finding.severity in stops for finding in findings):
        raise typer.Exit(1)


def _print_plan(settings: "Config", only: Sequence[str] | None) -> None:
    from frisket.inspection.fix import plan_fixes

    repairs = plan_fixes(settings, only=only)
    for repair in repairs:
        typer.echo(f"would fix: {repair.path}: {repair.note}; then {repair.now}")
    typer.echo(f"{len(repairs)} of the masks can be mended: frisket inspect --fix")


def _print_fixes(settings: "Config", folder: Path, only: Sequence[str] | None) -> None:
    from frisket.inspection.fix import fix

    for repair in fix(settings, folder, only=only):
        typer.echo(
            f"fixed: {repair.path}: {repair.note}; now {repair.now}, the old file in {repair.kept}"
        )


def _print_findings(findings: "Sequence[Finding]", folder: Path) -> None:
    from frisket.inspection.table import tabulate_findings

    for line in tabulate_findings(findings):
        typer.echo(line)
    count = f"{len(findings)} finding" + "s" * (len(findings) != 1)
    typer.echo(f"{count}: {folder / 'index.html'}, {folder / 'contact-sheet.png'}")
