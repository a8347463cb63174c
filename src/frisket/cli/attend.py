"""`frisket attend`, apart from the recipe so that help needs no torch."""

from typing import TYPE_CHECKING

import typer

from frisket.cli.generate import choose_adapters
from frisket.cli.model_options import TypedOptions, add_command
from frisket.cli.report.event_file import record_output
from frisket.progress import Bar

if TYPE_CHECKING:
    from frisket.config.calls import AttendRequest


def add(app: typer.Typer, bar: Bar) -> None:
    """Add the command, with a progress bar of the caller's."""

    def attend(typed: TypedOptions) -> None:
        """Show where the words of a caption or prompt look, and measure it against the masks.

        Training or held-out clips are noised at each --t; with --prompt pictures are sampled.
        """
        from frisket.config.load import read_request
        from frisket.recipes.attend import AttendOptions
        from frisket.recipes.attend import attend as run
        from frisket.runs.sampling.whole_models import find_model
        from frisket.scoring.runs import read_run

        request = read_request(_load_request(), typed)
        config = read_run(request.source_option or request.source, request.overrides)
        folder = config.run.output
        trained = any(folder.glob("lora*.safetensors")) or find_model(folder) is not None
        if not (trained or request.loras or request.base):
            typer.echo(f"note: {folder} holds no LoRA or model yet, so the base alone is looked at")
        base = request.base or not (trained or request.loras)
        loras = choose_adapters(
            folder,
            list(request.loras),
            list(request.strengths),
            base=base,
            train=config.model.train,
        )
        options = AttendOptions(
            phrases=request.phrases,
            prompts=request.prompts,
            seeds=request.seeds,
            clips=request.clips,
            limit=request.limit,
            layers=request.layers,
            form=request.form,
            softmax=request.softmax,
            t=request.t,
            draws=request.draws,
        )
        with bar() as progress:
            result = run(
                config,
                request.output or folder / "attention",
                options,
                lora=loras,
                progress=progress,
            )
        record_output("page", result.page)
        for note in result.notes:
            typer.echo(f"note: {note}")
        typer.echo(result.summary)
        typer.echo(f"Open {result.page}")

    add_command(app, "attend", attend, _load_request)


def _load_request() -> "type[AttendRequest]":
    from frisket.config.calls import AttendRequest

    return AttendRequest
