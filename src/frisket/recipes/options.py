"""Options that several commands have, written once; imports nothing slow."""

from pathlib import Path
from typing import Annotated

import typer

FIRST = Path("frisket.toml")
ConfigFile = Annotated[Path, typer.Argument(help="The config file, as `frisket init` writes it.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key, e.g. --set lora.rank=8."),
]
