"""Options as sd-scripts and musubi-tuner take them: by name, from a command line or a file."""

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from frisket.importers.base import NoteKind
from frisket.importers.options import SHARED, OptionRules, OptionTable, Sheet, read_rules


@cache
def merge_rules(trainer: str, *, data: bool = False) -> OptionRules:
    """The rules of a trainer, and of the training options that all of kohya's have.

    `data`: its options of data may stand among them, for all data sets.
    """
    trainer_rules, shared_rules = read_rules(trainer), read_rules(SHARED)
    common = trainer_rules.sections["data"] if data else {}
    flags = {
        "flags": {**common, **shared_rules.sections["flags"], **trainer_rules.sections["flags"]}
    }
    zeros = {
        **trainer_rules.zeros,
        "flags": trainer_rules.zeros["flags"] | shared_rules.zeros["flags"],
    }
    return replace(
        trainer_rules,
        sections={**trainer_rules.sections, **flags},
        zeros=zeros,
        defaults={"flags": _read_defaults(trainer)},
    )


@cache
def _read_defaults(trainer: str) -> Mapping[str, Any]:
    """What the trainer's own parsers hold where an option is not given, for those that hold one."""
    text = (resources.files("frisket.importers.shells") / "options.json").read_text("utf-8")
    options = json.loads(text)[trainer]["options"]
    return {name: row["default"] for name, row in options.items() if "default" in row}


class Flags:
    """Training options, in whichever file and table they stand: names of tables mean nothing there.

    Of several files of one run the first that sets an option counts, as a command line goes before
    the file that it names.
    """

    def __init__(self, *sheets: Sheet) -> None:
        """Open the files of `sheets`, at least one; BadImport where one holds no table."""
        self.tables: list[OptionTable] = []
        for sheet in sheets:
            top = sheet.top("flags")
            entries = top.written.items()
            options = {name: value for name, value in entries if not isinstance(value, dict)}
            self.tables.append(OptionTable(sheet, "flags", options, ()))
            self.tables += [top.table(name, "flags") for name in top.written if name not in options]
        self.sheet = sheets[0]

    def __contains__(self, name: str) -> bool:
        """Whether the option is given anywhere."""
        return any(name in table for table in self.tables)

    def at(self, name: str) -> OptionTable:
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

    def say(self, name: str, kind: NoteKind, message: str) -> None:
        """Note what became of an option here, in place of what the rules say."""
        self.at(name).say(name, kind, message)

    def close(self) -> None:
        """Note what the rules say of all that nothing was said of."""
        names: set[str] = set()
        for table in self.tables:
            for name in sorted(names & set(table.values)):
                table.say(name, "not needed", "is set by what goes before this file, too")
            names |= set(table.values)
            table.close()


def parse_named_values(table: OptionTable, option: str) -> dict[str, Any]:
    """`["betas=0.9,0.99", "weight_decay=0.1"]` as values; BadImport for one that has no name."""
    values: dict[str, Any] = {}
    for argument in table.texts(option):
        name, equals, value = argument.partition("=")
        if not equals:
            raise table.bad(option, f"{argument!r} should be name=value")
        values[name.strip()] = read_value(value.strip())
    return values


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
