"""The options of `frisket evaluate`, apart from the recipe so that help needs no torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from frisket.progress import Bar


def command(bar: Bar) -> Callable[..., None]:
    """The command, with a progress bar of the caller's."""

    def evaluate(
        runs: Annotated[
            list[Path], typer.Argument(help="Run folders or config files, side by side.")
        ],
        overrides: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="Change one key of every run."),
        ] = None,
        output: Annotated[
            Path | None,
            typer.Option("--output", "-o", help="Folder; by default evaluation in the first run."),
        ] = None,
        clips: Annotated[
            Path | None, typer.Option(help="Clips to measure on; by default those held out.")
        ] = None,
        masks: Annotated[
            str, typer.Option(help="Masks of --clips: a folder, alpha, sidecar or listed.")
        ] = "",
        prompt: Annotated[
            list[str] | None,
            typer.Option("--prompt", "-p", help="Names the subject; by default the trigger word."),
        ] = None,
        unrelated: Annotated[
            list[str] | None,
            typer.Option(help="Prompt without the subject, for drift; by default a list."),
        ] = None,
        seeds: Annotated[int, typer.Option(min=1, help="Samples of each prompt.")] = 8,
        draws: Annotated[int, typer.Option(min=1, help="Noises at each level of each clip.")] = 4,
        image: Annotated[
            list[Path] | None, typer.Option(help="Of models that start from pictures.")
        ] = None,
        features: Annotated[
            Path | None, typer.Option(help="Folder of a CLIP, SigLIP or DINO model.")
        ] = None,
        faces: Annotated[
            Path | None, typer.Option(help="Folder of an InsightFace pack: is it the same face?")
        ] = None,
        no_samples: Annotated[
            bool, typer.Option("--no-samples", help="Measure errors alone; sample nothing.")
        ] = False,
        strict: Annotated[
            bool, typer.Option("--strict", help="Exit code 1 where a claim was not shown.")
        ] = False,
    ) -> None:
        """Say whether the mask worked: base and trained runs side by side, in report.html."""
        # torch, only when asked for
        from frisket.recipes.evaluate import Measures
        from frisket.recipes.evaluate import evaluate as run
        from frisket.scoring.runs import read_run

        configs = [read_run(path, overrides or ()) for path in runs]
        folder = output or configs[0].run.output / "evaluation"
        how = Measures(
            clips=clips,
            masks=masks,
            prompts=prompt or (),
            unrelated=unrelated or (),
            seeds=seeds,
            draws=draws,
            images=image or (),
            features=features,
            faces=faces,
            samples=not no_samples,
        )
        with bar() as progress:
            found = run(configs, folder, how, progress=progress)
        for note in found.notes:
            typer.echo(f"note: {note}")
        for claim in found.verdict.claims:
            typer.echo(f"  {'yes' if claim.met else 'NO ':3} {claim.sentence} {claim.measured}")
        typer.echo(found.verdict.sentence)
        typer.echo(f"Open {found.page}")
        if strict and not found.verdict.held:
            raise typer.Exit(1)

    return evaluate
