"""What several commands have: options, the configuration they name, progress; nothing slow."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from frisket.cli.report.event_file import record_event
from frisket.config.command_options import FIRST
from frisket.config.other_trainers import find_key

if TYPE_CHECKING:
    from frisket.config.tree import Config

__all__ = [
    "FIRST",
    "Command",
    "ConfigFile",
    "NamedConfig",
    "Overrides",
    "add_short_options",
    "read_config",
]

ConfigFile = Annotated[Path, typer.Argument(help="The config file, as `frisket init` writes it.")]
NamedConfig = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The same file, by name.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. --set lora.rank=8."),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Short for --set run.steps=N.")]
Rank = Annotated[int | None, typer.Option(min=1, help="Short for --set lora.rank=N.")]
Rate = Annotated[float | None, typer.Option("--lr", help="Short for --set optimizer.lr=X.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Short for --set run.batch=N.")]


def add_short_options(overrides: Sequence[str] | None, **short: float | int | None) -> list[str]:
    """The `--set` options with the short ones behind them: run_steps=5 is run.steps=5."""
    settings = [f"{key.replace('_', '.', 1)}={value}" for key, value in short.items() if value]
    return [*(overrides or ()), *settings]


class Command(TyperCommand):
    """A command that knows what other trainers call an option, and says what it is here."""

    of_training = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does; where an option is not known by its name here, the error says which is."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # typer's own classes of errors are private
            key = find_key(str(getattr(error, "option_name", "")))
            if key and self.of_training:
                vars(error).update(
                    message=f"{error}. Here it is --set {key}=VALUE", possibilities=[]
                )
            raise


def read_config(path: Path, overrides: list[str] | None) -> "Config":
    """Read and check a command's configuration; ConfigError names the file, the key and the fix."""
    from frisket.config.load import check, read

    config, origin = read(path, overrides or ())
    check(config, origin)
    return config


@contextmanager
def show_bar() -> Iterator[Callable[..., None]]:
    """Progress, called with (title, done, total, values); rich is imported only when it is due."""
    from frisket.cli.progress import show_progress

    with show_progress() as report:
        yield report


def report_stop(stop: KeyboardInterrupt) -> typer.Exit:
    """Say in yellow what Ctrl-C came to, and report it; the exit to be raised."""
    message = f"{stop or 'stopped'}"
    typer.secho(message, fg=typer.colors.YELLOW, err=True)
    record_event("stopped", message=escape_controls(message))
    return typer.Exit(getattr(stop, "code", 130))


def escape_controls(text: str) -> str:
    """Text with the control characters that a stranger's names may hold shown, not obeyed."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", lambda match: repr(match[0])[1:-1], text)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    from frisket.disk.atomic import replacing

    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
