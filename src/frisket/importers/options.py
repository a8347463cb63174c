"""Every option of another trainer gets a note; what it documents stands in a `rules.toml`."""

import fnmatch
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, cast

from frisket.disk.toml_lines import Key
from frisket.disk.untrusted import cut, show
from frisket.importers.base import BadImport, Note, NoteKind
from frisket.importers.files import Written, format_key
from frisket.registry import suggest

SECRET = re.compile(r"secret|passw|api_?key|access_key|(^|_)token$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class OptionRule:
    """What becomes of one documented option; `idle` are values that ask for nothing."""

    kind: NoteKind
    message: str
    idle: tuple[Any, ...] = ()
    asks: tuple[Any, ...] = ()  # false, 0: values that ask for something all the same

    def is_idle(self, value: Any) -> bool:
        """Whether an option asks for nothing at this value: `true` is not 1, 1.0 is 1."""
        if any(_is_equal(value, other) for other in self.asks):
            return False
        return not _unquote(value) or any(_is_equal(value, other) for other in self.idle)


@dataclass(frozen=True, slots=True)
class OptionRules:
    """The documented options of each section of a trainer's configuration."""

    title: str
    sections: Mapping[str, Mapping[str, OptionRule]]
    zeros: Mapping[str, frozenset[str]] = field(default_factory=dict)  # unset at 0, by section
    blanks: Mapping[str, frozenset[str]] = field(default_factory=dict)  # set at "", by section
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # where recorded

    def is_idle(self, section: str, option: str, rule: OptionRule, value: Any) -> bool:
        """Whether an option asks for nothing at this value: at its default, where that is known."""
        default = self.defaults.get(section, {}).get(option)
        if default is None or any(_is_equal(value, idle) for idle in rule.idle):
            return rule.is_idle(value)
        return _is_equal(value, default)

    def is_unset(self, section: str, option: str, value: Any) -> bool:
        """Whether the trainer reads a value as none: null, "", and 0 or false by its rules."""
        if value == "" and isinstance(value, str):
            return not _matches_any(option, self.blanks.get(section, ()))
        none = value is None or _unquote(value) == 0  # as is false, which is 0 here
        return none and (value is None or _matches_any(option, self.zeros.get(section, ())))

    def find(self, section: str, option: str) -> OptionRule | None:
        """The rule of an option: its own, else that of the first pattern it matches."""
        rules = self.sections[section]
        patterns = (rule for name, rule in rules.items() if fnmatch.fnmatchcase(option, name))
        return rules.get(option) or next(patterns, None)


SHARED = "kohya_flags"


@cache
def read_rules(trainer: str) -> OptionRules:
    """The rules in `trainers/<trainer>/rules.toml`, or those that kohya's trainers share."""
    room = "flags" if trainer == SHARED else f"trainers.{trainer}"
    text = (resources.files(f"frisket.importers.{room}") / "rules.toml").read_text("utf-8")
    tree = tomllib.loads(text)
    title = tree.pop("title")
    zeros, blanks = (
        {name: frozenset(table.get(kind, ())) for name, table in tree.items()}
        for kind in ("zeros", "blanks")
    )
    return OptionRules(
        title, {name: _read_section(table) for name, table in tree.items()}, zeros, blanks
    )


def _read_section(table: Mapping[str, Any]) -> dict[str, OptionRule]:
    rules = {
        name: OptionRule("mapped", f"here {key}") for name, key in table.get("mapped", {}).items()
    }
    for group in table.get("other", []):
        values = (tuple(group.get(key, ())) for key in ("idle", "asks"))
        rule = OptionRule(group["kind"], group["said"], *values)
        rules |= dict.fromkeys(group["options"], rule)
    return rules


@dataclass(slots=True)
class Sheet:
    """One file being read, and the notes so far."""

    written: Written
    rules: OptionRules
    notes: list[Note] = field(default_factory=list)
    name: str = ""  # put before every option, where a second file is read besides the named one

    def top(self, section: str) -> "OptionTable":
        """The outermost table; BadImport where the file holds something else."""
        return OptionTable(self, section, self.written.tree, ())


class OptionTable:
    """A table of a foreign configuration: typed values come out, a note for each option stays.

    `values` are the options that are set; `written` holds those, too, that their trainer reads as
    unset (null, "", 0 where its rules say so), which get a note all the same.
    """

    def __init__(self, sheet: Sheet, section: str, values: Any, where: Key) -> None:
        """Refuse anything but a table with BadImport."""
        self.sheet, self.section, self.where = sheet, section, where
        if not isinstance(values, dict):
            content = show(values, 40) if values is not None else "empty"
            raise self._bad(where, f"is {content}, a table of options is needed")
        self.written = cast(dict[str, Any], values)
        unset = sheet.rules.is_unset
        self.values = {
            name: value for name, value in self.written.items() if not unset(section, name, value)
        }
        self._noted: set[str] = set()
        self._opened: set[str] = set()  # tables within, whose options have notes of their own

    def __contains__(self, name: str) -> bool:
        """Whether the option is set."""
        return name in self.values

    def table(self, name: str, section: str) -> "OptionTable":
        """A table within; empty where there is none."""
        self._opened.add(name)
        inside = self.values.get(name)
        return OptionTable(
            self.sheet, section, {} if inside is None else inside, (*self.where, name)
        )

    def tables(self, name: str, section: str) -> list["OptionTable"]:
        """A list of tables within."""
        self._opened.add(name)
        inside = self._list(name)
        return [
            OptionTable(self.sheet, section, table, (*self.where, name, n))
            for n, table in enumerate(inside)
        ]

    def text(self, name: str, default: str = "") -> str:
        """An option that is text."""
        value = self.values.get(name)
        if value is not None and not isinstance(value, str):
            raise self.bad(name, "text is needed, in quotes")
        return default if value is None else value

    def texts(self, name: str) -> list[str]:
        """An option that is text, or a list of text."""
        value = self.values.get(name)
        texts = [value] if isinstance(value, str) else self._list(name)
        if not all(isinstance(text, str) for text in texts):
            raise self.bad(name, "text is needed, or a list of text")
        return [text for text in texts if text]

    def flag(self, name: str, *, default: bool = False) -> bool:
        """An option that is true or false, be it in quotes."""
        value = self.values.get(name)
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        if value is not None and not isinstance(value, bool):
            raise self.bad(name, "true or false is needed")
        return default if value is None else value

    def number(
        self, name: str, default: float | int = 0.0, *, low: float | int = -math.inf
    ) -> float:
        """An option that is a finite number of at least `low`, be it in quotes (YAML's 1e-4)."""
        value = self.values.get(name)
        if value is None:
            return float(default)
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number) or number < low:
            least = f" of at least {low:g}" if low > -math.inf else ""
            raise self.bad(name, f"a number{least} is needed")
        return number

    def whole(self, name: str, default: int = 0, *, low: int = 0) -> int:
        """An option that is a whole number of at least `low`."""
        number = self.number(name, default, low=low)
        if number != int(number):
            raise self.bad(name, "a whole number is needed")
        return int(number)

    def choice(self, name: str, options: Sequence[str], default: str) -> str:
        """An option that is one of a few words, in either case."""
        value = self.text(name, default)
        for option in options:
            if value.lower() == option.lower():
                return option
        raise self.bad(name, f"there is no such choice{suggest(value, list(options))}")

    def say(self, name: str, kind: NoteKind, message: str, value: Any = None) -> None:
        """Note what became of one option here, in place of what the rules say in general.

        The first note of an option stays. `value` is that of an option which is not written but has
        a default that counts.
        """
        if name not in self._noted:
            self._noted.add(name)
            self._note(name, kind, message, value)

    def defect(self, name: str, message: str, value: Any = None) -> None:
        """Note what the trainer really does with an option, besides what becomes of it here."""
        self._note(name, "defect", message, value)

    def part(self, name: str, inner: str, kind: NoteKind, message: str, value: Any = None) -> None:
        """Note what becomes of one part of an option, as of a list of arguments by name."""
        key = (*self.where, name, inner)
        line = self.sheet.written.line(key[:-1]) if name in self.written else None
        option = self.sheet.name + format_key(key)
        self.sheet.notes.append(Note(option, _hide_secrets(inner, value), kind, message, line))

    def _note(self, name: str, kind: NoteKind, message: str, value: Any) -> None:
        raw_value = self.written.get(name)
        key = (*self.where, name)
        line = self.sheet.written.line(key) if name in self.written else None
        public_value = _hide_secrets(name, value if raw_value is None else raw_value)
        self.sheet.notes.append(
            Note(self.sheet.name + format_key(key), public_value, kind, message, line)
        )

    def skip(self, message: str) -> None:
        """Note that all options left are not needed, as what they belong to is left out."""
        for name in self.written:
            if name not in self._opened:
                self.say(name, "not needed", message)

    def close(self) -> None:
        """Note what the rules say of every option that nothing was said of yet."""
        for name, value in self.written.items():
            if name not in self._noted | self._opened:
                self.say(name, *self._apply_rules(name, value))

    def bad(self, name: str, message: str) -> BadImport:
        """The error for an option that cannot be used, to be raised."""
        assignment = f" = {show(self.written[name], 60)}" if name in self.written else ""
        return self._bad((*self.where, name), message, assignment)

    def _bad(self, key: Key, message: str, assignment: str = "") -> BadImport:
        at = self.sheet.written.where(key)
        message = cut(message, 600)
        return BadImport(
            f"{at}: {cut(format_key(key))}{assignment}: {message}" if key else f"{at}: {message}"
        )

    def _list(self, name: str) -> list[Any]:
        value = self.values.get(name)
        if value is not None and not isinstance(value, list):
            raise self.bad(name, "a list is needed")
        return value or []

    def _apply_rules(self, name: str, value: Any) -> tuple[NoteKind, str]:
        rules = self.sheet.rules
        rule = rules.find(self.section, name)
        if rule is None:
            documented = [option for option in rules.sections[self.section] if "*" not in option]
            hint = suggest(name, documented) if documented else ""
            hint = hint if hint.startswith(",") else ""
            return "no equivalent", f"{rules.title} documents no such option{hint}; it is not used"
        if rule.kind == "mapped" and name not in self.values:
            return "not needed", f"is unset at this value: left to {rules.title}'s default"
        if rule.kind == "no equivalent" and (
            name not in self.values or rules.is_idle(self.section, name, rule, value)
        ):
            return "not needed", "asks for nothing at this value"
        return rule.kind, rule.message


def _matches_any(option: str, names: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(option, name) for name in names)


def _unquote(value: Any) -> Any:
    """A number or truth value that stands in quotes, as itself; anything else as it is."""
    if not isinstance(value, str):
        return value
    word = value.strip().lower()
    if word in ("true", "false"):
        return word == "true"
    try:
        return float(word)
    except ValueError:
        return value


def _is_equal(value: Any, other: Any) -> bool:
    """Whether two values are the same to a reader: 1 and "1.0" are, 1 and true are not."""
    value, other = _unquote(value), _unquote(other)
    return isinstance(value, bool) == isinstance(other, bool) and bool(value == other)


def _hide_secrets(name: str, value: Any) -> Any:
    """A value as notes may carry it, which are written and shown: without passwords and keys."""
    if isinstance(value, dict):
        return {
            inner: _hide_secrets(str(inner), inner_value) for inner, inner_value in value.items()
        }
    return "(hidden)" if value and SECRET.search(name) else value


def drop_unset(**options: Any) -> dict[str, Any]:
    """What is set of some options; None, empty and false are what Frisket does by itself."""
    return {name: value for name, value in options.items() if value or type(value) in (int, float)}
