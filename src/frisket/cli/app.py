"""The command line: a command reads a config file and `--set key=value`, and calls its recipe."""

import errno
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from frisket.cli import convert, evaluate, families, generate, import_, pack
from frisket.cli.masks import command as command_module
from frisket.cli.options import (
    FIRST,
    Batch,
    Command,
    ConfigFile,
    Named,
    Overrides,
    Rank,
    Rate,
    Steps,
    lay_short,
)
from frisket.media.quiet import quiet

if TYPE_CHECKING:
    from frisket.config.tree import Config

LONGEST = 8000  # letters of an error that are shown

app = typer.Typer(
    name="frisket",
    help="Region-weighted fine-tuning for diffusion models: teach the model this, and only this.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # of "rich" a [table] in a help text would be markup, and vanish
    context_settings={"help_option_names": ["-h", "--help"]},
)


def visible(text: str) -> str:
    """Text with the control characters that a stranger's names may hold shown, not obeyed."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda found: repr(found[0])[1:-1], text)


class Lines(logging.Handler):
    """Log lines to where stderr points now: above the progress bar while there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        print(visible(self.format(record)), file=sys.stderr)


def _version(asked: bool | None) -> None:
    if asked:
        from frisket import __version__

        typer.echo(f"frisket {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
    _: Annotated[
        bool | None,
        typer.Option("--version", callback=_version, is_eager=True, help="Say the version."),
    ] = None,
) -> None:
    """Set up what every command says on the way: our messages, and of others only errors."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[Lines()])
    logging.getLogger("frisket").setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:
        quiet()


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of clips (and masks, captions).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = FIRST,
    family: Annotated[str, typer.Option(help="Model family; empty chooses by the clips.")] = "",
    variant: Annotated[str, typer.Option(help="Its variant; empty chooses by the clips.")] = "",
) -> None:
    """Write a commented config for a folder of clips."""
    from frisket.recipes.init.write import init as run

    for line in run(folder, output, family=family, variant=variant):
        typer.echo(line)
    typer.echo(f"\nWrote {output}. Look at the masks next: frisket inspect {output}")


@app.command(cls=Command)
def doctor(
    config: Annotated[Path | None, typer.Argument(help="A config file to check as well.")] = None,
    named: Named = None,
    overrides: Overrides = None,
) -> None:
    """Say what this machine has, what is missing, and whether a config fits it; and the fix."""
    from frisket.recipes.doctor import doctor as run

    findings = run(config or named, overrides or ())
    colours = {"ok": typer.colors.GREEN, "note": typer.colors.YELLOW, "missing": typer.colors.RED}
    wide = max(len(finding.about) for finding in findings)
    for finding in findings:
        verdict = typer.style(f"{finding.verdict:>7}", fg=colours[finding.verdict])
        typer.echo(f"{verdict}  {finding.about:<{wide}}  {finding.said}")
        if finding.fix:
            typer.echo(f"{'':7}  {'':<{wide}}  fix: {finding.fix}")
    missing = sum(finding.verdict == "missing" for finding in findings)
    typer.echo(f"\n{missing} missing." if missing else "\nAll that is needed is here.")
    if missing:
        raise typer.Exit(1)


@app.command(cls=Command)
def prepare(config: ConfigFile = FIRST, named: Named = None, overrides: Overrides = None) -> None:
    """Encode clips, captions and masks once, into the cache."""
    asked = _asked(named or config, overrides)
    from frisket.runs.banner import show
    from frisket.runs.epochs import counted
    from frisket.runs.opening import opening
    from frisket.runs.prepare import prepare as run

    for line in opening(asked):
        typer.echo(visible(line), err=True)
    with _bar() as progress:
        prepared = run(asked, progress=progress)
    show(counted(asked, prepared.items), prepared)


@app.command(cls=Command)
def inspect(
    config: ConfigFile = FIRST,
    named: Named = None,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; by default run.output/inspect.")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="First mend what needs no guess, keeping the old files.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 on warnings too, not on errors alone.")
    ] = False,
    vae: Annotated[
        bool, typer.Option("--vae", help="Load the VAE and measure how far masks leak.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one a core, 8 at most.")
    ] = None,
) -> None:
    """Show every clip with its mask and weights, and what looks wrong (PNG and HTML).

    Exits with 0 where nothing must be mended, 1 where there are errors.
    """
    asked = _asked(named or config, overrides)
    from frisket.inspection.fix import fix as mend
    from frisket.inspection.table import table
    from frisket.recipes.inspect import inspect as run

    folder = output or asked.run.output / "inspect"
    for done in mend(asked, folder) if fix else ():
        typer.echo(f"fixed: {done.path}: {done.told}; now {done.now}, the old file in {done.kept}")
    with _bar() as progress:
        findings = run(asked, folder, progress=progress, workers=workers, vae=vae)
    for line in table(findings):
        typer.echo(line)
    count = f"{len(findings)} finding" + "s" * (len(findings) != 1)
    typer.echo(f"{count}: {folder / 'index.html'}, {folder / 'contact-sheet.png'}")
    stops = ("error", "warning") if strict else ("error",)
    if any(finding.severity in stops for finding in findings):
        raise typer.Exit(1)


@app.command(cls=Command)
def train(
    config: ConfigFile = FIRST,
    named: Named = None,
    overrides: Overrides = None,
    steps: Steps = None,
    rank: Rank = None,
    lr: Rate = None,
    batch: Batch = None,
) -> None:
    """Train a LoRA under the masks, going on from the newest checkpoint."""
    short = {"run_steps": steps, "lora_rank": rank, "optimizer_lr": lr, "run_batch": batch}
    asked = _asked(named or config, lay_short(overrides, **short))
    from frisket.recipes.train import train as run
    from frisket.runs.banner import show
    from frisket.runs.opening import opening

    for line in opening(asked):
        typer.echo(visible(line), err=True)
    try:
        with _bar() as progress:
            outcome = run(asked, progress=progress, announce=show)
    except KeyboardInterrupt as stop:
        typer.secho(f"{stop or 'stopped'}", fg=typer.colors.YELLOW, err=True)
        raise typer.Exit(getattr(stop, "code", 130)) from stop
    made = " and ".join(map(str, outcome.loras))
    typer.echo(
        f"{made}: {outcome.steps} steps, {outcome.seconds:.0f} s of CPU time,"
        f" {outcome.peak_mib:.0f} MiB at most"
    )


@app.command()
def quickstart(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path(
        "quickstart"
    ),
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many times all is trained anew; by default once.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="As the table of the README: twice, twice as long.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one a core, 4 at most.")
    ] = None,
    overrides: Overrides = None,
) -> None:
    """See that the mask works: train four ways on a little data set, compare, write report.html."""
    from frisket.recipes.quickstart import FULL
    from frisket.recipes.quickstart import quickstart as run

    with _bar() as progress:
        report = run(
            output,
            seeds=seeds or (2 if full else 1),
            workers=workers,
            overrides=[*(FULL if full else ()), *(overrides or ())],
            progress=progress,
        )
    said = json.loads(report.with_suffix(".json").read_text(encoding="utf-8"))
    typer.echo(said["verdict"])
    for claim in said["claims"]:
        met = "yes" if claim["met"] else "NO "
        typer.echo(f"  {met} {claim['measured']:>6}  {claim['sentence']}")
    typer.echo(f"Open {report}")


@app.command()
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File; by default it is printed.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Also write the reference page (Markdown) here.")
    ] = None,
) -> None:
    """Write the JSON schema of the configuration (for editors)."""
    from frisket.config import schema as described

    if output is None:
        typer.echo(described.text(), nl=False)
    else:
        _write(output, described.text())
    if reference is not None:
        _write(reference, described.reference())


def _write(path: Path, text: str) -> None:
    from frisket.disk.atomic import replacing

    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _asked(path: Path, overrides: list[str] | None) -> "Config":
    """The configuration a command was called with, checked."""
    from frisket.config.load import check, read

    config, origin = read(path, overrides or ())
    check(config, origin)
    return config


@contextmanager
def _bar() -> Iterator[Callable[..., None]]:
    """Progress, called with (title, done, total, values); rich is imported only when it is due."""
    from frisket.cli.progress import show_progress

    with show_progress() as report:
        yield report


convert.add(app, _bar)
generate.add(app, _bar)
app.add_typer(command_module.commands(_bar), name="masks")
evaluate.add(app, _bar)
app.command("import")(import_.command())
pack.add(app, _bar)
app.command("families")(families.command(_write))


def _meant(error: BaseException) -> bool:
    """Whether an error was written for the reader: ours by its class or raised by our own code."""
    if isinstance(error, OSError):
        return True
    if type(error).__module__.partition(".")[0] == "frisket":
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    raised_by = str(trace.tb_frame.f_globals.get("__name__", "")) if trace else ""
    return isinstance(error, ValueError) and raised_by.partition(".")[0] == "frisket"


def _told(error: BaseException) -> str:
    """The message of an error: what the system refused has a name, and nothing is endless."""
    said = str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
        said = said.replace("[Errno 28] ", "")
        said += (
            ": free some space where run.output, run.cache and the temporary files (TMPDIR) lie,"
            " and run the same command again; what was finished stays"
        )
    said = visible(said)
    half = LONGEST // 2
    left = len(said) - 2 * half
    return f"{said[:half]} ... ({left} letters) ... {said[-half:]}" if left > 0 else said


def main() -> None:
    """Run a command; errors meant for the reader are one red line and exit code 2."""
    # Threads of the tokenizers library warn at every fork; nothing here needs them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files may be no text of any encoding
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except Exception as error:
        if not _meant(error) or os.environ.get("FRISKET_TRACEBACK") == "1":
            raise
        typer.secho(_told(error), fg=typer.colors.RED, err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
