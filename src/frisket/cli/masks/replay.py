"""`frisket masks replay` from its command line to the lines it prints."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frisket.progress import Bar

if TYPE_CHECKING:
    from frisket.recipes.masks.replay import Replayed


def add(app: typer.Typer, bar: Bar) -> None:
    """Add the command to the group, with a progress bar of the caller's."""
    app.command("replay")(_make_replay(bar))


def _make_replay(bar: Bar) -> Callable[..., None]:
    def replay(
        folder: Annotated[
            Path, typer.Argument(help="Folder that the studio was opened on.", show_default=False)
        ],
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", help="Mask folder; by default `masks` beside `clips`."),
        ] = None,
        edits: Annotated[
            Path | None,
            typer.Option(help="Folder of logs; by default FOLDER/.frisket-studio/edits."),
        ] = None,
        overwrite: Annotated[
            bool,
            typer.Option(
                "--overwrite", help="Also on masks that were changed since they were made."
            ),
        ] = False,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Say what would change, and write nothing.")
        ] = False,
    ) -> None:
        """Paint again what was painted in the studio, on masks that were made anew."""
        from frisket.recipes.masks.replay import replay as replay_edits

        with bar() as progress:
            result = replay_edits(
                folder,
                output,
                logs=edits,
                overwrite=overwrite,
                dry_run=dry_run,
                progress=progress,
            )
        typer.echo("\n".join(_render(result, dry_run=dry_run)))
        if result.left:
            raise typer.Exit(1)

    return replay


def _render(result: "Replayed", *, dry_run: bool) -> list[str]:
    verb = "would be painted" if dry_run else "painted"
    lines = [
        f"{len(result.changed)} masks {verb} again in {result.masks},"
        f" {len(result.unchanged)} hold their edits already",
        *result.notes,
    ]
    if result.left:
        lines.append(f"{len(result.left)} left as they are:")
        lines += [f"  {name}: {reason}" for name, reason in result.left.items()]
    return lines
