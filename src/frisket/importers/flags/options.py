"""Options as sd-scripts and musubi-tuner take them: by name, from a command line or a file."""

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from frisket.importers.base import Kind
from frisket.importers.options import SHARED, Rules, Sheet, Table, rules_of


@cache
def rules_with_flags(trainer: str, *, data: bool = False) -> Rules:
    """The rules of a trainer, and of the training options that all of kohya's have.

    `data`: its options of data may stand among them, for all data sets.
    """
    own, both = rules_of(trainer), rules_of(SHARED)
    common = own.sections["data"] if data else {}
    flags = {"flags": {**common, **both.sections["flags"], **own.sections["flags"]}}
    zeros = {**own.zeros, "flags": own.zeros["flags"] | both.zeros["flags"]}
    return replace(
        own, sections={**own.sections, **flags}, zeros=zeros, defaults={"flags": _defaults(trainer)}
    )


@cache
def _defaults(trainer: str) -> Mapping[str, Any]:
    """What the trainer's own parsers hold where an option is not given, for those that hold one."""
    text = (resources.files("frisket.importers.shells") / "options.json").read_text("utf-8")
    options = json.loads(text)[trainer]["options"]
    return {name: each["default"] for name, each in options.items() if "default" in each}


class Flags:
    """Training options, in whichever file and table they stand: names of tables mean nothing there.

    Of several files of one run the first that sets an option counts, as a command line goes before
    the file that it names.
    """

    def __init__(self, *sheets: Sheet) -> None:
        """Open the files of `sheets`, at least one; BadLayout where one holds no table."""
        self.tables: list[Table] = []
        for sheet in sheets:
            top = sheet.top("flags")
            held = top.written.items()
            plain = {name: value for name, value in held if not isinstance(value, dict)}
            self.tables.append(Table(sheet, "flags", plain, ()))
            self.tables += [top.table(name, "flags") for name in top.written if name not in plain]
        self.sheet = sheets[0]

    def __contains__(self, name: str) -> bool:
        """Whether the option is given anywhere."""
        return any(name in table for table in self.tables)

    def at(self, name: str) -> Table:
        """The table an option stands in; the outermost for one that is not given."""
        return next((table for table in self.tables if name in table), self.tables[0])

    def text(self, name: str, default: str = "") -> str:
        """An option that is text."""
        return self.at(name).text(name, default)

    def texts(self, name: str) -> list[str]:
        """An option that is a list of text."""
        return self.at(name).texts(name)

    def flag(self, name: str) -> bool:
        """An option that is true or false; false where it is not given."""
        return self.at(name).flag(name)

    def number(self, name: str, default: float = 0.0, *, low: float = -math.inf) -> float:
        """An option that is a number."""
        return self.at(name).number(name, default, low=low)

    def whole(self, name: str, default: int = 0, *, low: int = 0) -> int:
        """An option that is a whole number."""
        return self.at(name).whole(name, default, low=low)

    def say(self, name: str, kind: Kind, said: str) -> None:
        """Note what became of an option here, in place of what the rules say."""
        self.at(name).say(name, kind, said)

    def close(self) -> None:
        """Note what the rules say of all that nothing was said of."""
        seen: set[str] = set()
        for table in self.tables:
            for name in sorted(seen & set(table.values)):
                table.say(name, "not needed", "is set by what goes before this file, too")
            seen |= set(table.values)
            table.close()


def named_values(table: Table, option: str) -> dict[str, Any]:
    """`["betas=0.9,0.99", "weight_decay=0.1"]` as values; BadLayout for one that has no name."""
    found: dict[str, Any] = {}
    for each in table.texts(option):
        name, equals, value = each.partition("=")
        if not equals:
            raise table.bad(option, f"{each!r} should be name=value")
        found[name.strip()] = read_value(value.strip())
    return found


def read_value(text: str) -> Any:
    """A value as these trainers read it: of Python where it is one, else text; tuples as lists."""
    word = {"true": True, "false": False, "none": None}
    if text.lower() in word:
        return word[text.lower()]
    try:
        parsed = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        parsed = text
    return list(parsed) if isinstance(parsed, tuple) else parsed
