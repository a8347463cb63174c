"""The options of `frisket generate`, apart from the recipe so that help needs no torch."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frisket.cli.options import FIRST, ConfigFile, Named, Overrides
from frisket.progress import Bar

if TYPE_CHECKING:
    from frisket.config.tree import Config

Read = Callable[[Path, list[str] | None], "Config"]


def command(bar: Bar, read: Read) -> Callable[..., None]:
    """The command, with a progress bar and a reader of configs of the caller's."""

    def generate(
        config: ConfigFile = FIRST,
        named: Named = None,
        overrides: Overrides = None,
        prompt: Annotated[
            list[str] | None,
            typer.Option(
                "--prompt", "-p", help="What to sample; repeatable; by default [preview] prompts."
            ),
        ] = None,
        prompt_file: Annotated[
            Path | None,
            typer.Option(
                help="Prompts, one a line, with options if you like: --n negative, --w --h pixels,"
                " --f frames, --d seed, --s steps, --l guidance, --i picture."
            ),
        ] = None,
        image: Annotated[
            list[Path] | None,
            typer.Option(
                help="First frame (image to video), or a picture to edit; repeatable where a model"
                " takes several."
            ),
        ] = None,
        lora: Annotated[
            list[Path] | None,
            typer.Option(help="LoRA file; repeatable; by default the one in run.output."),
        ] = None,
        strength: Annotated[
            list[float] | None, typer.Option(help="Strength of each --lora in turn; 1 as trained.")
        ] = None,
        base: Annotated[
            bool, typer.Option("--base", help="Sample the base model, no LoRA.")
        ] = False,
        compare: Annotated[
            bool, typer.Option("--compare", help="Sample with and without, same seeds.")
        ] = False,
        seed: Annotated[
            list[int] | None, typer.Option(help="Repeatable; by default [preview] seeds.")
        ] = None,
        negative: Annotated[str | None, typer.Option(help="Negative prompt.")] = None,
        steps: Annotated[int | None, typer.Option(min=1, help="Sampling steps.")] = None,
        guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
        width: Annotated[int | None, typer.Option(min=1, help="Pixels.")] = None,
        height: Annotated[int | None, typer.Option(min=1, help="Pixels.")] = None,
        frames: Annotated[int | None, typer.Option(min=1, help="Frames.")] = None,
        batch: Annotated[int | None, typer.Option(min=1, help="Samples at a time.")] = None,
        output: Annotated[
            Path | None,
            typer.Option(
                "--output",
                "-o",
                help="Folder; by default the next of run.output/samples/001, 002, ...; one that"
                " holds samples gets a number.",
            ),
        ] = None,
    ) -> None:
        """Sample pictures or clips by prompt, with a LoRA, without, or both.

        What is left open is as in [preview], then as the model's variant has it.
        """
        asked = read(named or config, overrides)
        from frisket.recipes.generate import generate as run
        from frisket.runs.gallery import new_folder, write_gallery

        preview = asked.preview  # what the command line leaves open is sampled as in training
        loras = adapters(asked.run.output, lora or [], strength or [], base=base)
        with bar() as progress:
            made = run(
                asked,
                prompt or (() if prompt_file else preview.prompts),
                partial(new_folder, output, asked.run.output / "samples"),
                lora=loras,
                without=compare,
                seeds=seed or preview.seeds,
                prompt_file=prompt_file,
                images=image or preview.images,
                negative=preview.negative if negative is None else negative,
                steps=steps or preview.steps,
                guidance=preview.guidance if guidance is None else guidance,
                height=height or preview.height,
                width=width or preview.width,
                frames=frames or preview.frames,
                batch=batch,
                progress=progress,
            )
        page = write_gallery(made.grid.parent.parent) if output is None else None
        count = f"{len(made.pictures)} sample" + "s" * (len(made.pictures) != 1)
        typer.echo(f"{count}, {made.grid}" + (f"; all so far: {page}" if page else ""))

    return generate


def adapters(
    output: Path, loras: list[Path], strengths: list[float], *, base: bool
) -> list[tuple[Path, float]]:
    """LoRA files with their strengths: those asked for, else the one the config trained."""
    if base and (loras or strengths):
        raise typer.BadParameter("--base samples without a LoRA; leave out --lora and --strength")
    if base:
        return []
    trained = output / "lora.safetensors"
    there = trained.is_file() or any(output.glob("lora-*.safetensors"))  # one an expert
    if not loras and not there:
        raise typer.BadParameter(
            f"{trained} is not there yet: train first, or give --lora or --base"
        )
    loras = loras or [trained]
    if len(strengths) > len(loras):
        raise typer.BadParameter(f"{len(strengths)} --strength for {len(loras)} --lora")
    return list(zip(loras, strengths + [1.0] * (len(loras) - len(strengths)), strict=True))
