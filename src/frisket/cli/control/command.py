"""The commands of `frisket control`, apart from their recipes so that help needs no torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from frisket.cli.model_options import TypedOptions, add_command
from frisket.cli.options import report_stop
from frisket.progress import Bar

if TYPE_CHECKING:
    from frisket.config.calls import ControlMakeRequest
    from frisket.recipes.control.make import ControlResult

CLIPS_NAMED = 12  # clips named at the end


def make_commands(bar: Bar) -> typer.Typer:
    """The group of commands, with a progress bar of the caller's."""
    app = typer.Typer(
        no_args_is_help=True,
        rich_markup_mode="markdown",
        help="Make control pictures (edges, lines, depth, poses) for clips, for a ControlNet.",
    )
    add_command(app, "make", _make(bar), _load_request)
    app.command("list")(_print_kinds)
    return app


def _make(bar: Bar) -> Callable[[TypedOptions], None]:
    def make(typed: TypedOptions) -> None:
        """Draw the control picture of every clip that has none or whose settings changed."""
        from frisket.config.load import read_request
        from frisket.recipes.control.make import make_controls

        request = read_request(_load_request(), typed)
        try:
            with bar() as progress:
                result = make_controls(request, progress=progress)
        except KeyboardInterrupt as stop:
            raise report_stop(stop) from stop
        typer.echo("\n".join(_spell_result(request, result)))
        if result.failed:
            raise typer.Exit(1)

    return make


def _spell_result(request: "ControlMakeRequest", result: "ControlResult") -> list[str]:
    counts = ", ".join(f"{count} {name}" for name, count in result.counts.items() if count)
    lines = [f"{request.output}: {counts or 'nothing to do'}"]
    lines += [f"  failed: {name}: {message}" for name, message in result.failed[:CLIPS_NAMED]]
    if len(result.failed) > CLIPS_NAMED:
        lines.append(f"  and {len(result.failed) - CLIPS_NAMED} more")
    if result.handwork:
        more = (
            f" and {len(result.handwork) - CLIPS_NAMED} more"
            if len(result.handwork) > CLIPS_NAMED
            else ""
        )
        lines.append(
            f"  by hand, left as they are (--overwrite makes them anew):"
            f" {', '.join(result.handwork[:CLIPS_NAMED])}{more}"
        )
    if result.counts["made"]:
        lines.append(f'In the config: control = "{request.output.as_posix()}" in [[data]].')
    return lines


def _load_request() -> "type[ControlMakeRequest]":
    from frisket.config.calls import ControlMakeRequest

    return ControlMakeRequest


def _print_kinds() -> None:
    """List the kinds of control pictures: what each needs, its options and licence."""
    from frisket.recipes.control.make import list_kinds

    typer.echo("\n".join(list_kinds()))
