"""The options of `frisket pack`, apart from the recipe so that help needs no torch."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from frisket.progress import Bar


def command(bar: Bar) -> Callable[..., None]:
    """The command, with a progress bar of the caller's."""

    def pack(
        source: Annotated[
            Path, typer.Argument(help="A folder, a manifest (.jsonl), a table or tar shards.")
        ],
        output: Annotated[
            Path,
            typer.Option("--output", "-o", help="New folder; or a .jsonl that names files."),
        ],
        to: Annotated[str, typer.Option(help="folder, jsonl, parquet or webdataset.")],
        kind: Annotated[
            str, typer.Option("--from", help="The same for SOURCE; by default it is found out.")
        ] = "",
        image: Annotated[
            str, typer.Option(metavar="COLUMN", help="Column of the clips (of a table).")
        ] = "",
        caption: Annotated[
            str, typer.Option(metavar="COLUMN", help="Column of the captions.")
        ] = "",
        mask: Annotated[
            list[str] | None,
            typer.Option(
                metavar="[REGION=]COLUMN", help="Column of the masks; repeatable, one a region."
            ),
        ] = None,
        name: Annotated[
            str, typer.Option(metavar="COLUMN", help="Column of the clips' names.")
        ] = "",
        shard: Annotated[int, typer.Option(min=1, help="MiB of one tar or table, about.")] = 512,
        follow_links: Annotated[
            bool,
            typer.Option("--follow-links", help="Also pack what links bring from elsewhere."),
        ] = False,
    ) -> None:
        """Store a data set another way, byte for byte: files, manifest, tables, tar shards."""
        from frisket.data.format_base import Columns
        from frisket.recipes.pack import Asked
        from frisket.recipes.pack import pack as run

        columns = Columns(image, caption, name, _regions(mask or ()))
        asked = Asked(source, output, to, kind, columns, shard, follow_links)
        with bar() as progress:
            lines = run(asked, progress)
        typer.echo("\n".join(lines))

    return pack


def _regions(given: Sequence[str]) -> dict[str, str]:
    """`face=face_mask` and `mask` to region and column."""
    columns: dict[str, str] = {}
    for each in given:
        region, _, column = each.rpartition("=")
        if region in columns:
            raise typer.BadParameter(f"--mask names the region {region!r} twice")
        columns[region] = column
    return columns
