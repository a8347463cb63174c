"""`frisket masks point`, `accept` and `reject`: what a person says of masks, one by one."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from frisket.cli.model_options import TypedOptions, add_command

if TYPE_CHECKING:
    from frisket.config.maskgen import PointRequest

_ClipFolder = Annotated[Path, typer.Argument(help="Folder of clips (or one with `clips` in it).")]
_Names = Annotated[
    list[str] | None,
    typer.Argument(help="Clips: their paths below the clip folder, without suffix."),
]
_Above = Annotated[
    float | None, typer.Option(help="All masks whose confidence is at least this, 0 to 1.")
]
_Undo = Annotated[bool, typer.Option("--undo", help="Take the verdict back.")]
_Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Mask folder; by default `masks` beside `clips`."),
]
_BesideOption = Annotated[
    bool, typer.Option("--beside", help="Masks beside each clip, as name.mask.png.")
]


def add(app: typer.Typer) -> None:
    """Add the commands to the group."""
    add_command(app, "point", _point, _load_request)
    app.command("accept")(_make_judge("accepted"))
    app.command("reject")(_make_judge("rejected"))


def _load_request() -> "type[PointRequest]":
    from frisket.config.maskgen import PointRequest

    return PointRequest


def _point(typed: TypedOptions) -> None:
    """Cut one thing out of a picture by points, a box or words, into a region of its mask."""
    from frisket.config.load import read_request
    from frisket.recipes.masks.point import point_mask

    request = read_request(_load_request(), typed)
    pointed = point_mask(request)
    certainty = "" if pointed.score is None else f", {pointed.score:.0%} sure"
    typer.echo(
        f"{pointed.path}: {request.region} is {pointed.share:.1%} of the picture"
        f" (by {pointed.backend}{certainty})"
    )


def _make_judge(kind: Any) -> Callable[..., None]:
    def judge(
        folder: _ClipFolder,
        names: _Names = None,
        above: _Above = None,
        undo: _Undo = False,
        output: _Output = None,
        beside: _BesideOption = False,
    ) -> None:
        from frisket.recipes.masks.judge import judge_masks

        result = judge_masks(
            folder, kind, names=names or (), above=above, undo=undo, output=output, beside=beside
        )
        for name, reason in result.refused.items():
            typer.echo(f"  left as it is: {name}: {reason}")
        word = "no longer judged" if undo else kind
        typer.echo(f"{result.folder}: {len(result.judged)} {word}")
        if result.refused and not result.judged:
            raise typer.Exit(1)

    judge.__doc__ = (
        "Take masks as they are: training uses them, and other settings leave them alone."
        if kind == "accepted"
        else "Doubt masks: training leaves their clips out until they are mended."
    )
    return judge
