"""The command line: its commands, the messages on the way, and how errors are shown."""

import errno
import logging
import os
import sys
import traceback
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from frisket.cli import (
    attend,
    doctor,
    evaluate,
    generate,
    inspect,
    methods,
    prepare,
    quickstart,
    reference,
    train,
)
from frisket.cli.config import init, values
from frisket.cli.control import command as control_command
from frisket.cli.editing import edit
from frisket.cli.exchange import convert, import_, pack
from frisket.cli.masks import command as command_module
from frisket.cli.options import Command, escape_controls, show_bar
from frisket.cli.report.event_file import (
    finish_report,
    open_report,
    record_error,
    record_log,
)
from frisket.cli.studio import command as studio_command
from frisket.cli.studio import serve as serve_command
from frisket.media.quiet import quiet

LONGEST = 8000  # letters of an error that are shown


class ReportedGroup(TyperGroup):
    """The commands; wrong usage is reported, as other errors are."""

    def invoke(self, ctx: Any) -> Any:
        """As typer does; what it prints about a command line goes to the report too."""
        try:
            return super().invoke(ctx)
        except Exception as error:  # typer's own classes of errors are private
            if callable(spell := getattr(error, "format_message", None)):
                record_error(escape_controls(spell()))
            raise


app = typer.Typer(
    name="frisket",
    cls=ReportedGroup,
    help="Region-weighted fine-tuning for diffusion models: teach the model this, and only this.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # of "rich" a [table] in a help text would be markup, and vanish
    context_settings={"help_option_names": ["-h", "--help"]},
)


class LogLines(logging.Handler):
    """Log lines to where stderr points now: above the progress bar while there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, its control characters shown and not obeyed."""
        message = escape_controls(self.format(record))
        print(message, file=sys.stderr)
        record_log(record.levelno, message)


def _print_version(requested: bool | None) -> None:
    if requested:
        from frisket import __version__

        typer.echo(f"frisket {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
    _: Annotated[
        bool | None,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            envvar="FRISKET_REPORT",
            metavar="FILE",
            help="Append progress, messages and the end to FILE, a JSON line each.",
        ),
    ] = None,
) -> None:
    """Set up what every command says on the way: our messages, and of others only errors."""
    if report is not None:
        open_report(report)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[LogLines()])
    logging.getLogger("frisket").setLevel(logging.DEBUG if verbose else logging.INFO)
    if not verbose:
        quiet()


# In the order of `frisket --help`.
app.command("init")(init.init)
app.command("explain", cls=Command)(values.explain)
app.command("doctor", cls=Command)(doctor.doctor)
app.command("prepare", cls=Command)(prepare.prepare)
app.command("inspect", cls=Command)(inspect.inspect)
app.command("train", cls=Command)(train.train)
app.command("quickstart")(quickstart.quickstart)
app.command("schema")(reference.schema)
convert.add(app, show_bar)
generate.add(app, show_bar)
edit.add(app, show_bar)
app.add_typer(command_module.make_commands(show_bar), name="masks")
app.add_typer(control_command.make_commands(show_bar), name="control")
evaluate.add(app, show_bar)
attend.add(app, show_bar)
app.command("import")(import_.command())
pack.add(app, show_bar)
app.command("families")(reference.families)
app.command("methods")(methods.show_methods)
app.command("name-norms", cls=Command)(methods.measure_name_norms)
app.command("studio")(studio_command.open_studio)
app.command("serve")(serve_command.serve)


def _is_meant(error: BaseException) -> bool:
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


def _format_error(error: BaseException) -> str:
    """The message of an error: what the system refused has a name, and nothing is endless."""
    message = str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename:
        message = message.replace("[Errno 28] ", "")
        message += (
            ": free some space where run.output, run.cache and the temporary files (TMPDIR) lie,"
            " and run the same command again; what was finished stays"
        )
    message = escape_controls(message)
    half = LONGEST // 2
    left = len(message) - 2 * half
    return f"{message[:half]} ... ({left} letters) ... {message[-half:]}" if left > 0 else message


def main() -> None:
    """Run a command; errors meant for the reader are one red line and exit code 2."""
    # Threads of the tokenizers library warn at every fork; nothing here needs them.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files may be no text of any encoding
            stream.reconfigure(errors="backslashreplace")
    with finish_report():
        _run_command()


def _run_command() -> None:
    try:
        app()
    except Exception as error:
        message = _format_error(error)
        if not _is_meant(error) or os.environ.get("FRISKET_TRACEBACK") == "1":
            trace = "".join(traceback.format_exception(error)).splitlines()
            record_error(f"{type(error).__name__}: {message}", trace=trace)
            raise
        record_error(message)
        typer.secho(message, fg=typer.colors.RED, err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
