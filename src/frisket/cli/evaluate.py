"""`frisket evaluate`, apart from the recipe so that help needs no torch."""

from dataclasses import fields
from typing import TYPE_CHECKING

import typer

from frisket.cli.model_options import TypedOptions, add_command
from frisket.cli.report.event_file import record_output
from frisket.progress import Bar

if TYPE_CHECKING:
    from frisket.config.calls import EvaluateRequest


def add(app: typer.Typer, bar: Bar) -> None:
    """Add the command, with a progress bar of the caller's."""

    def evaluate(typed: TypedOptions) -> None:
        """Say whether the mask worked: base and trained runs side by side, in report.html."""
        # torch, only when asked for
        from frisket.config.load import read_request
        from frisket.recipes.evaluate import Measures
        from frisket.recipes.evaluate import evaluate as run
        from frisket.scoring.runs import read_run

        request = read_request(_load_request(), typed)
        configs = [read_run(path, request.overrides) for path in request.runs]
        folder = request.output or configs[0].run.output / "evaluation"
        options = request.model_dump()
        names = {field.name for field in fields(Measures)} & set(options)
        measures = Measures(
            samples=not request.no_samples, **{name: options[name] for name in names}
        )
        with bar() as progress:
            result = run(configs, folder, measures, progress=progress)
        record_output("page", result.page)
        for note in result.notes:
            typer.echo(f"note: {note}")
        for claim in result.verdict.claims:
            typer.echo(f"  {'yes' if claim.met else 'NO ':3} {claim.sentence} {claim.measured}")
        typer.echo(result.verdict.sentence)
        if result.comparison is not None:
            typer.echo(result.comparison.sentence)
        typer.echo(f"Open {result.page}")
        if request.strict and not result.verdict.held:
            raise typer.Exit(1)

    add_command(app, "evaluate", evaluate, _load_request)


def _load_request() -> "type[EvaluateRequest]":
    from frisket.config.calls import EvaluateRequest

    return EvaluateRequest
