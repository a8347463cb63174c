"""How a field of a model is typed on a command line; the options are made of the models."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FIRST = Path("frisket.toml")  # the config file of a command that is given none


@dataclass(frozen=True, slots=True)
class CommandOption:
    """What a field's name, type, default and docstring do not say about its option.

    Stands in a field's `Annotated`. Without it `min_area: float = 0.0` is `--min-area`.
    """

    names: tuple[str, ...] = ()  # as typed, the long one first; empty: two dashes and the field's
    panel: str = ""  # heading in the help; empty: the section's own `panel`
    metavar: str = ""
    read: Callable[[Any], Any] | None = (
        None  # what is typed as a file holds it; ValueError: why not
    )
    argument: bool = False  # typed by its place, without a name
    fields: tuple[str, ...] = ()  # of a section: those of its fields that are options here; all


def option(
    *names: str,
    panel: str = "",
    metavar: str = "",
    read: Callable[[Any], Any] | None = None,
) -> CommandOption:
    """What stands in the `Annotated` of a field, such as `option("--cut")`."""
    return CommandOption(names, panel, metavar, read)


def pick_fields(*names: str) -> CommandOption:
    """What stands in the `Annotated` of a section of which a command has these fields alone."""
    return CommandOption(fields=names)


ARGUMENT = CommandOption(argument=True)
