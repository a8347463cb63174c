"""The commands of `frisket masks`, apart from their recipes so that help needs no torch."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from frisket.cli.masks import files
from frisket.progress import Bar

MAKE = "make"

Folder = Annotated[Path, typer.Argument(help="Folder of clips (or one with `clips` in it).")]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Mask folder; by default `masks` beside `clips`."),
]
Beside = Annotated[bool, typer.Option("--beside", help="Masks beside each clip, as name.mask.png.")]

WHAT, WHO, MODELS = "What to look for", "Whom to keep", "Models"
CLEAN, VIDEO, WRITE, WORK = "Clean-up", "Videos", "What is written", "How it runs"


class Masks(TyperGroup):
    """`frisket masks FOLDER` is `frisket masks make FOLDER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the usual command in front where none is named."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = [MAKE, *args]
        return super().parse_args(ctx, args)


def commands(bar: Bar) -> typer.Typer:
    """The group of commands, with a progress bar of the caller's."""
    app = typer.Typer(
        cls=Masks,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        help="Make region masks for a folder of clips, look at them, carry them over."
        " `frisket masks FOLDER` is short for `frisket masks make FOLDER`.",
    )
    app.command(MAKE)(_make(bar))
    app.command("review")(_review(bar))
    app.command("backends")(_backends)
    app.command("rules")(_rules)
    files.add(app, bar)
    return app


def _make(bar: Bar) -> Callable[..., None]:
    def make(
        folder: Folder,
        backend: Annotated[
            list[str] | None,
            typer.Option(
                "--backend",
                "-b",
                help="Backend or composition (frisket masks backends); repeatable, see --combine."
                " Default: draft, which needs no download.",
            ),
        ] = None,
        best: Annotated[
            bool,
            typer.Option(
                "--people",
                help="The best parser of people on this machine; without one, asks before a small"
                " model is fetched.",
            ),
        ] = False,
        phrases: Annotated[
            str,
            typer.Option(
                help="'face; hair; red jacket', or 'subject = mug, cup'.", rich_help_panel=WHAT
            ),
        ] = "",
        from_captions: Annotated[
            bool,
            typer.Option("--from-captions", help="Each clip's own caption.", rich_help_panel=WHAT),
        ] = False,
        captions: Annotated[
            Path | None,
            typer.Option(help="Folder or .jsonl of captions.", rich_help_panel=WHAT),
        ] = None,
        captioner: Annotated[
            str,
            typer.Option(
                help="Backend that captions clips without one, such as florence2.",
                rich_help_panel=WHAT,
            ),
        ] = "",
        trigger: Annotated[
            str, typer.Option(help="Trigger word in the captions.", rich_help_panel=WHAT)
        ] = "",
        class_word: Annotated[
            str, typer.Option(help="What the trigger is: woman, dog.", rich_help_panel=WHAT)
        ] = "",
        rules: Annotated[
            Path | None,
            typer.Option(help="Phrases to regions (frisket masks rules).", rich_help_panel=WHAT),
        ] = None,
        everything_but: Annotated[
            bool,
            typer.Option(
                "--everything-but",
                help="Leave out what is found: the region `subject` is the rest.",
                rich_help_panel=WHAT,
            ),
        ] = False,
        parts: Annotated[
            str,
            typer.Option(
                help="Regions of parsed people: person (face, hair, body), or parts (hands and"
                " clothes too).",
                rich_help_panel=WHAT,
            ),
        ] = "person",
        neck: Annotated[
            str, typer.Option(help="Region of the neck: body or face.", rich_help_panel=WHAT)
        ] = "body",
        keep: Annotated[
            str,
            typer.Option(help="all, largest, nearest, or face (see --like).", rich_help_panel=WHO),
        ] = "all",
        near: Annotated[
            str,
            typer.Option(
                metavar="X,Y",
                help="Point for --keep nearest, shares of width and height.",
                rich_help_panel=WHO,
            ),
        ] = "",
        like: Annotated[
            list[Path] | None,
            typer.Option(help="Picture of the face to keep; repeatable.", rich_help_panel=WHO),
        ] = None,
        alike: Annotated[
            float,
            typer.Option(help="Cosine from which a face is the same.", rich_help_panel=WHO),
        ] = 0.35,
        source: Annotated[
            list[str] | None,
            typer.Option(
                metavar="[NAME=]PATH",
                help="Folder, file or hub id of a backend's weights; repeatable.",
                rich_help_panel=MODELS,
            ),
        ] = None,
        threshold: Annotated[
            list[str] | None,
            typer.Option(
                metavar="NAME.KEY=VALUE",
                help="A backend's threshold, as grounding_dino.box=0.3; repeatable.",
                rich_help_panel=MODELS,
            ),
        ] = None,
        segmenter: Annotated[
            str, typer.Option(help="What cuts boxes out, or none.", rich_help_panel=MODELS)
        ] = "",
        people: Annotated[
            str,
            typer.Option(
                "--detector",
                help="What finds the people a parser is given one by one, or none.",
                rich_help_panel=MODELS,
            ),
        ] = "",
        tracker: Annotated[
            str, typer.Option(help="What follows through videos, or none.", rich_help_panel=MODELS)
        ] = "",
        combine: Annotated[
            str,
            typer.Option(
                help="Of several backends: union, intersect, subtract, replace, fill, blend.",
                rich_help_panel=MODELS,
            ),
        ] = "union",
        longest: Annotated[
            int,
            typer.Option(
                min=0, help="Pixels of the longer side models see; 0: all.", rich_help_panel=MODELS
            ),
        ] = 0,
        device: Annotated[
            list[str] | None,
            typer.Option(help="auto, cuda:0, cpu ...; one process each.", rich_help_panel=MODELS),
        ] = None,
        dtype: Annotated[
            str, typer.Option(help="auto, float32, bfloat16, float16.", rich_help_panel=MODELS)
        ] = "auto",
        batch: Annotated[
            int, typer.Option(min=1, help="Pictures at a time.", rich_help_panel=MODELS)
        ] = 4,
        cut: Annotated[
            float,
            typer.Option(help="Probability from which a pixel belongs.", rich_help_panel=CLEAN),
        ] = 0.5,
        loosen: Annotated[
            float,
            typer.Option(help="Share a box is grown by before cutting.", rich_help_panel=CLEAN),
        ] = 0.0,
        refine: Annotated[
            float,
            typer.Option(
                help="Pixels a border may move to an edge of the picture.", rich_help_panel=CLEAN
            ),
        ] = 0.0,
        fill_holes: Annotated[
            bool, typer.Option("--fill-holes", help="Close holes.", rich_help_panel=CLEAN)
        ] = False,
        largest: Annotated[
            bool, typer.Option("--largest", help="Keep the largest patch.", rich_help_panel=CLEAN)
        ] = False,
        min_area: Annotated[
            float,
            typer.Option(help="Share below which a patch is dropped.", rich_help_panel=CLEAN),
        ] = 0.0,
        grow: Annotated[
            float, typer.Option(help="Pixels; below 0 shrinks.", rich_help_panel=CLEAN)
        ] = 0.0,
        feather: Annotated[
            float,
            typer.Option(help="Pixels of soft border (with --soft).", rich_help_panel=CLEAN),
        ] = 0.0,
        every: Annotated[
            int, typer.Option(min=1, help="Frames between detections.", rich_help_panel=VIDEO)
        ] = 20,
        window: Annotated[
            int, typer.Option(min=2, help="Frames held at once.", rich_help_panel=VIDEO)
        ] = 48,
        smooth: Annotated[
            str, typer.Option(help="none, median, or motion.", rich_help_panel=VIDEO)
        ] = "median",
        radius: Annotated[
            int,
            typer.Option(min=0, help="Frames to either side smoothed over.", rich_help_panel=VIDEO),
        ] = 1,
        gap: Annotated[
            int,
            typer.Option(
                min=0,
                help="Frames a region may be missing for and be filled.",
                rich_help_panel=VIDEO,
            ),
        ] = 8,
        output: Output = None,
        beside: Beside = False,
        soft: Annotated[
            bool,
            typer.Option("--soft", help="Also a soft plane a region.", rich_help_panel=WRITE),
        ] = False,
        brush: Annotated[
            Path | None,
            typer.Option(
                help="Folder of label images laid over the result (255: leave as it is).",
                rich_help_panel=WRITE,
            ),
        ] = None,
        overwrite: Annotated[
            bool,
            typer.Option("--overwrite", help="Also masks painted by hand.", rich_help_panel=WRITE),
        ] = False,
        again: Annotated[
            bool,
            typer.Option("--again", help="Also what is done already.", rich_help_panel=WRITE),
        ] = False,
        stability: Annotated[
            bool,
            typer.Option(
                "--stability",
                help="Look at each picture mirrored and smaller too (three times the work).",
                rich_help_panel=WORK,
            ),
        ] = False,
        review: Annotated[
            bool,
            typer.Option("--review", help="Then write the review page.", rich_help_panel=WORK),
        ] = False,
        limit: Annotated[
            int, typer.Option(min=0, help="Stop after so many clips.", rich_help_panel=WORK)
        ] = 0,
        dry_run: Annotated[
            bool,
            typer.Option("--dry-run", help="Say what would be done.", rich_help_panel=WORK),
        ] = False,
        workers: Annotated[
            int,
            typer.Option(
                min=0, help="Processes (threads beside a model); 0 chooses.", rich_help_panel=WORK
            ),
        ] = 0,
    ) -> None:
        """Make masks for every clip that has none or whose settings changed."""
        given = dict(locals())  # before anything else is bound: the options by their names
        from frisket.cli.masks import make as make_module

        if best:
            from frisket.maskgen.vision.people_parser import with_parser

            ask = typer.confirm if sys.stdin.isatty() else None
            given = with_parser(given, ask, dry=dry_run)
        try:
            with bar() as progress:
                lines, code = make_module.run(given, dry=dry_run, review=review, progress=progress)
        except KeyboardInterrupt as stop:
            typer.secho(f"{stop or 'stopped'}", fg=typer.colors.YELLOW, err=True)
            raise typer.Exit(130) from stop
        typer.echo("\n".join(lines))
        if code:
            raise typer.Exit(code)

    return make


def _review(bar: Bar) -> Callable[..., None]:
    def review(
        folder: Folder,
        output: Output = None,
        beside: Beside = False,
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
            line, _ = make_module.reviewed(
                folder, output, beside=beside, below=below, page=page, progress=progress
            )
        typer.echo(line)

    return review


def _backends() -> None:
    """List backends and compositions, with their licences."""
    from frisket.cli.masks import make as make_module

    typer.echo("\n".join(make_module.backends()))


def _rules(
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
