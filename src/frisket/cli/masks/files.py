"""`frisket masks eval`, `export`, `import` and `layouts`, apart so that help needs no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from frisket.progress import Bar

_LevelsOption = Annotated[
    str,
    typer.Option(
        metavar="face=255,body=128", help="Cut grey masks into regions, by the nearest level."
    ),
]
_OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace masks that are there.")
]


def add(app: typer.Typer, bar: Bar) -> None:
    """Add the commands to the group, with a progress bar of the caller's."""
    app.command("eval")(_make_eval(bar))
    app.command("export")(_make_export(bar))
    app.command("import")(_make_import(bar))
    app.command("layouts")(_print_layouts)


def _print_lines(lines: list[str], code: int) -> None:
    typer.echo("\n".join(lines))
    if code:
        raise typer.Exit(code)


def _make_eval(bar: Bar) -> Callable[..., None]:
    def evaluate(
        pred: Annotated[
            str,
            typer.Option(
                help="Masks to judge: a folder, or one a region as face=DIR/face,hair=DIR/hair."
            ),
        ],
        gt: Annotated[str, typer.Option(help="Masks taken for the truth, given alike.")],
        clips: Annotated[
            Path | None,
            typer.Option(
                help="Folder of the clips: names folders of frames, and gives videos their"
                " motion-compensated temporal IoU."
            ),
        ] = None,
        legend_pred: Annotated[
            str,
            typer.Option(
                metavar="face=1,hair=2",
                help="Legend of --pred, or a legend.json; by default the one there.",
            ),
        ] = "",
        legend_gt: Annotated[
            str, typer.Option(metavar="face=1,hair=2", help="Legend of --gt, likewise.")
        ] = "",
        levels: _LevelsOption = "",
        merge: Annotated[
            list[str] | None,
            typer.Option(
                metavar="person=face,hair,body", help="Compare a union of regions; repeatable."
            ),
        ] = None,
        json: Annotated[
            Path | None, typer.Option("--json", help="File for every number, clip by clip.")
        ] = None,
    ) -> None:
        """Compare two folders of masks, name by name: overlap, borders, mix-ups, steadiness."""
        from frisket.cli.masks.compare import run

        with bar() as progress:
            lines, code = run(
                pred,
                gt,
                clips=clips,
                legend_pred=legend_pred,
                legend_gt=legend_gt,
                levels=levels,
                merge=merge or (),
                output=json,
                progress=progress,
            )
        _print_lines(lines, code)

    return evaluate


def _make_export(bar: Bar) -> Callable[..., None]:
    def export(
        folder: Annotated[
            Path, typer.Argument(help="Folder of clips (or one with `clips` in it).")
        ],
        to: Annotated[str, typer.Option(help="Layout (frisket masks layouts).")],
        output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
        masks: Annotated[
            str,
            typer.Option(
                help="Masks: a folder, or one a region as face=DIR/face,hair=DIR/hair; by default"
                " where `frisket masks` puts them."
            ),
        ] = "",
        config: Annotated[
            Path | None, typer.Option(help="Weights of regions, from a config file.")
        ] = None,
        regions: Annotated[str, typer.Option(help="Weights of a preset: person.")] = "",
        weights: Annotated[
            str,
            typer.Option(
                metavar="face=1,hair=0.3", help="Weights by hand, laid over those of the others."
            ),
        ] = "",
        levels: _LevelsOption = "",
        missing: Annotated[
            str, typer.Option(help="Clips without a mask: skip, or white (teaches everywhere).")
        ] = "skip",
        overwrite: _OverwriteOption = False,
    ) -> None:
        """Write masks for another tool; weights are baked in where it knows no regions."""
        from frisket.cli.masks.exchange import (
            run_export,
        )

        with bar() as progress:
            lines, code = run_export(
                folder,
                to,
                output,
                masks=masks,
                config=config,
                regions=regions,
                weights=weights,
                levels=levels,
                missing=missing,
                overwrite=overwrite,
                progress=progress,
            )
        _print_lines(lines, code)

    return export


def _make_import(bar: Bar) -> Callable[..., None]:
    def import_masks(
        source: Annotated[Path, typer.Argument(help="What the other tool wrote: folder or file.")],
        layout: Annotated[str, typer.Option("--from", help="Layout (frisket masks layouts).")],
        clips: Annotated[Path, typer.Option(help="Folder of the clips.")],
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", help="Mask folder; by default `masks` beside `clips`."),
        ] = None,
        levels: _LevelsOption = "",
        overwrite: _OverwriteOption = False,
    ) -> None:
        """Read masks of another tool into label maps with a legend."""
        from frisket.cli.masks.exchange import (
            run_import,
        )

        with bar() as progress:
            lines, code = run_import(
                source,
                layout,
                clips,
                output,
                levels=levels,
                overwrite=overwrite,
                progress=progress,
            )
        _print_lines(lines, code)

    return import_masks


def _print_layouts() -> None:
    """List the layouts of other tools, and what each loses."""
    from frisket.cli.masks.exchange import list_layouts

    typer.echo("\n".join(list_layouts()))
