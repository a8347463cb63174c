"""Options that several commands have, written once; imports nothing slow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from frisket.config.command_options import FIRST
from frisket.config.other_trainers import named_here

__all__ = ["FIRST", "Command", "ConfigFile", "Named", "Overrides", "lay_short"]

ConfigFile = Annotated[Path, typer.Argument(help="The config file, as `frisket init` writes it.")]
Named = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The same file, by name.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. --set lora.rank=8."),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Short for --set run.steps=N.")]
Rank = Annotated[int | None, typer.Option(min=1, help="Short for --set lora.rank=N.")]
Rate = Annotated[float | None, typer.Option("--lr", help="Short for --set optimizer.lr=X.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Short for --set run.batch=N.")]


def lay_short(overrides: Sequence[str] | None, **short: float | int | None) -> list[str]:
    """The `--set` options with the short ones behind them: run_steps=5 is run.steps=5."""
    said = [f"{key.replace('_', '.', 1)}={value}" for key, value in short.items() if value]
    return [*(overrides or ()), *said]


class Command(TyperCommand):
    """A command that knows what other trainers call an option, and says what it is here."""

    of_training = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does; where an option is not known by its name here, the error says which is."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # typer's own classes of errors are private
            key = named_here(str(getattr(error, "option_name", "")))
            if key and self.of_training:
                vars(error).update(
                    message=f"{error}. Here it is --set {key}=VALUE", possibilities=[]
                )
            raise
