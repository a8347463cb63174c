"""The commands of `frisket masks`, apart from their recipes so that help needs no torch."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from frisket.cli.masks import files, hand, replay, track
from frisket.cli.model_options import TypedOptions, add_command
from frisket.cli.options import report_stop
from frisket.progress import Bar

if TYPE_CHECKING:
    from frisket.config.maskgen import MaskRequest

MAKE = "make"

_ClipFolder = Annotated[Path, typer.Argument(help="Folder of clips (or one with `clips` in it).")]
_OutputOption = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Mask folder; by default `masks` beside `clips`."),
]
_BesideOption = Annotated[
    bool, typer.Option("--beside", help="Masks beside each clip, as name.mask.png.")
]


class MasksGroup(TyperGroup):
    """`frisket masks FOLDER` is `frisket masks make FOLDER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the usual command in front where none is named."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [MAKE, *args]
        return super().parse_args(ctx, args)


def make_commands(bar: Bar) -> typer.Typer:
    """The group of commands, with a progress bar of the caller's."""
    app = typer.Typer(
        cls=MasksGroup,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        help="Make region masks for a folder of clips, look at them, carry them over."
        " `frisket masks FOLDER` is short for `frisket masks make FOLDER`.",
    )
    add_command(app, MAKE, _make(bar), _load_request)
    app.command("review")(_review(bar))
    app.command("backends")(_print_backends)
    app.command("rules")(_print_rules)
    files.add(app, bar)
    hand.add(app)
    replay.add(app, bar)
    track.add(app, bar)
    return app


def _make(bar: Bar) -> Callable[[TypedOptions], None]:
    def make(typed: TypedOptions) -> None:
        """Make masks for every clip that has none or whose settings changed."""
        from frisket.cli.masks import make as make_module
        from frisket.config.load import read_request

        request = read_request(_load_request(), typed)
        if request.ask_people:
            request = _with_parser(request, backend_typed=("maskgen", "backends") in typed)
        try:
            with bar() as progress:
                lines, code = make_module.run(request, progress=progress)
        except KeyboardInterrupt as stop:
            raise report_stop(stop) from stop
        typer.echo("\n".join(lines))
        if code:
            raise typer.Exit(code)

    return make


def _with_parser(request: "MaskRequest", *, backend_typed: bool) -> "MaskRequest":
    """The request with a parser of people for its backend; asks where somebody can be asked."""
    from frisket.maskgen.vision.people_parser import choose_parser

    options, ask = request.maskgen, typer.confirm if sys.stdin.isatty() else None
    dry = request.dry_run
    parser = choose_parser(
        request.folder, options.sources, ask, dry=dry, backend_typed=backend_typed
    )
    sources = parser.sources or options.sources
    changed = options.model_copy(update={"backends": (parser.backend,), "sources": sources})
    return request.model_copy(update={"maskgen": changed})


def _load_request() -> "type[MaskRequest]":
    from frisket.config.maskgen import MaskRequest

    return MaskRequest


def _review(bar: Bar) -> Callable[..., None]:
    def review(
        folder: _ClipFolder,
        output: _OutputOption = None,
        beside: _BesideOption = False,
        below: Annotated[
            float, typer.Option(help="Confidence below which a mask is to be looked at.")
        ] = 0.5,
        page: Annotated[
            Path | None, typer.Option(help="Folder of the page; by default MASKS_review.")
        ] = None,
    ) -> None:
        """Write a page and a contact sheet of all masks, those to look at first."""
        from frisket.cli.masks import make as make_module

        with bar() as progress:
            line, _ = make_module.write_review_page(
                folder, output, beside=beside, below=below, page=page, progress=progress
            )
        typer.echo(line)

    return review


def _print_backends() -> None:
    """List backends and compositions, with their licences."""
    from frisket.cli.masks import make as make_module

    typer.echo("\n".join(make_module.list_backends()))


def _print_rules(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; by default they are printed.")
    ] = None,
) -> None:
    """Print the rules that map phrases to regions, to be edited and given as --rules."""
    from frisket.maskgen.text.rules import dump

    if output is None:
        typer.echo(dump(), nl=False)
        return
    if output.exists():
        raise typer.BadParameter(f"{output} exists and is not overwritten")
    from frisket.disk.atomic import replacing

    with replacing(output) as draft:
        draft.write_text(dump(), encoding="utf-8")
