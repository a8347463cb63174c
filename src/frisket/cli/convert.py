"""The options of `frisket convert`, apart from the recipe so that help needs no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from frisket.progress import Bar


def command(bar: Bar) -> Callable[..., None]:
    """The command, with a progress bar of the caller's."""

    def convert(
        files: Annotated[
            list[Path] | None, typer.Argument(help="LoRA files; without -o they are described.")
        ] = None,
        output: Annotated[
            Path | None, typer.Option("--output", "-o", help="File to write (of several: folder).")
        ] = None,
        to: Annotated[str, typer.Option(help="Keys: comfyui, diffusers or kohya.")] = "comfyui",
        family: Annotated[str, typer.Option(help="Model family, where the file is silent.")] = "",
        variant: Annotated[str, typer.Option(help="Variant, where the file is silent.")] = "",
        expert: Annotated[
            str, typer.Option(help="Expert a silent file is for (Wan 2.2: high or low).")
        ] = "",
        rank: Annotated[int | None, typer.Option(min=1, help="Resize to this rank.")] = None,
        scale: Annotated[
            float | None, typer.Option(help="Multiply the effect; 1 is as trained.")
        ] = None,
        average: Annotated[
            str, typer.Option(metavar="0.7,0.3", help="One LoRA of all files, weighted so.")
        ] = "",
        exact: Annotated[
            bool, typer.Option("--exact", help="Average without loss: ranks add up.")
        ] = False,
        merge_into: Annotated[
            Path | None, typer.Option(help="Diffusers folder to merge into; -o is a new one.")
        ] = None,
        extract: Annotated[
            tuple[Path, Path] | None,
            typer.Option(metavar="BASE TUNED", help="The LoRA between two diffusers folders."),
        ] = None,
        dtype: Annotated[
            str, typer.Option(help="float32, bfloat16 or float16; empty leaves it.")
        ] = "",
        drop_text: Annotated[
            bool, typer.Option("--drop-text", help="Leave text encoders' tensors out.")
        ] = False,
        leave_out: Annotated[
            list[str] | None,
            typer.Option(
                "--leave-out",
                metavar="PATTERN",
                help="Leave out layers, tensors or metadata of this name (`*.diff_b`); repeat it.",
            ),
        ] = None,
    ) -> None:
        """Describe LoRA files; with -o convert, resize, scale, average, merge or extract them."""
        from frisket.recipes.convert import run

        with bar() as progress:
            lines = run(
                files or [],
                output,
                to=to,
                average=average,
                exact=exact,
                merge_into=merge_into,
                extract=extract,
                progress=progress,
                family=family,
                variant=variant,
                expert=expert,
                rank=rank,
                scale=scale,
                dtype=dtype,
                drop_text=drop_text,
                leave_out=tuple(leave_out or ()),
            )
        typer.echo("\n".join(lines))

    return convert
