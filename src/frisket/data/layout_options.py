"""Every option of another trainer gets a note; what it documents stands in `layouts/*.toml`."""

import fnmatch
import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, cast

from frisket.data.layout_base import BadLayout, Kind, Note
from frisket.data.layout_files import Written, dotted
from frisket.data.toml_lines import Key
from frisket.media.untrusted import cut, shown
from frisket.registry import nearest

SECRET = re.compile(r"secret|passw|api_?key|access_key|(^|_)token$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Rule:
    """What becomes of one documented option; `idle` are values that ask for nothing."""

    kind: Kind
    said: str
    idle: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """The documented options of each section of a trainer's configuration."""

    title: str
    sections: Mapping[str, Mapping[str, Rule]]

    def find(self, section: str, option: str) -> Rule | None:
        """The rule of an option: its own, else that of the first pattern it matches."""
        rules = self.sections[section]
        patterns = (rule for name, rule in rules.items() if fnmatch.fnmatchcase(option, name))
        return rules.get(option) or next(patterns, None)


@cache
def rules_of(trainer: str) -> Rules:
    """The rules in `layouts/<trainer>.toml`."""
    text = (resources.files("frisket.data.layouts") / f"{trainer}.toml").read_text("utf-8")
    tree = tomllib.loads(text)
    title = tree.pop("title")
    return Rules(title, {name: _section(table) for name, table in tree.items()})


def _section(table: Mapping[str, Any]) -> dict[str, Rule]:
    rules = {name: Rule("mapped", f"here {key}") for name, key in table.get("mapped", {}).items()}
    for group in table.get("other", []):
        rule = Rule(group["kind"], group["said"], tuple(group.get("idle", ())))
        rules |= dict.fromkeys(group["options"], rule)
    return rules


@dataclass(slots=True)
class Sheet:
    """One file being read, and the notes so far."""

    written: Written
    rules: Rules
    notes: list[Note] = field(default_factory=list)
    name: str = ""  # put before every option, where a second file is read besides the named one

    def top(self, section: str) -> "Table":
        """The outermost table; BadLayout where the file holds something else."""
        return Table(self, section, self.written.tree, ())


class Table:
    """A table of a foreign configuration: typed values come out, a note for each option stays."""

    def __init__(self, sheet: Sheet, section: str, values: Any, where: Key) -> None:
        """Refuse anything but a table with BadLayout."""
        self.sheet, self.section, self.where = sheet, section, where
        if not isinstance(values, dict):
            what = shown(values, 40) if values is not None else "empty"
            raise self._bad(where, f"is {what}, a table of options is needed")
        self.values = cast(dict[str, Any], values)
        self._said: set[str] = set()

    def __contains__(self, name: str) -> bool:
        """Whether the option is given, and not as null."""
        return self.values.get(name) is not None

    def table(self, name: str, section: str) -> "Table":
        """A table within; empty where there is none."""
        self._said.add(name)
        inside = self.values.get(name)
        return Table(self.sheet, section, {} if inside is None else inside, (*self.where, name))

    def tables(self, name: str, section: str) -> list["Table"]:
        """A list of tables within."""
        self._said.add(name)
        inside = self._list(name)
        return [
            Table(self.sheet, section, each, (*self.where, name, n))
            for n, each in enumerate(inside)
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
        given = [value] if isinstance(value, str) else self._list(name)
        if not all(isinstance(each, str) for each in given):
            raise self.bad(name, "text is needed, or a list of text")
        return [each for each in given if each]

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
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            found = math.nan
        if not math.isfinite(found) or found < low:
            least = f" of at least {low:g}" if low > -math.inf else ""
            raise self.bad(name, f"a number{least} is needed")
        return found

    def whole(self, name: str, default: int = 0, *, low: int = 0) -> int:
        """An option that is a whole number of at least `low`."""
        found = self.number(name, default, low=low)
        if found != int(found):
            raise self.bad(name, "a whole number is needed")
        return int(found)

    def choice(self, name: str, options: Sequence[str], default: str) -> str:
        """An option that is one of a few words, in either case."""
        value = self.text(name, default)
        for option in options:
            if value.lower() == option.lower():
                return option
        raise self.bad(name, f"there is no such choice{nearest(value, list(options))}")

    def say(self, name: str, kind: Kind, said: str, value: Any = None) -> None:
        """Note what became of one option here, in place of what the rules say in general.

        The first note of an option stays. `value` is that of an option which is not written but has
        a default that counts.
        """
        if name not in self._said:
            self._said.add(name)
            self._note(name, kind, said, value)

    def defect(self, name: str, said: str, value: Any = None) -> None:
        """Note what the trainer really does with an option, besides what becomes of it here."""
        self._note(name, "defect", said, value)

    def _note(self, name: str, kind: Kind, said: str, value: Any) -> None:
        given = self.values.get(name)
        key = (*self.where, name)
        line = self.sheet.written.line(key) if name in self.values else None
        shown = _shown(name, value if given is None else given)
        self.sheet.notes.append(Note(self.sheet.name + dotted(key), shown, kind, said, line))

    def skip(self, said: str) -> None:
        """Note that all options left are not needed, as what they belong to is left out."""
        for name in self.values:
            self.say(name, "not needed", said)

    def close(self) -> None:
        """Note what the rules say of every option that nothing was said of yet."""
        for name, value in self.values.items():
            if name not in self._said:
                self.say(name, *self._ruled(name, value))

    def bad(self, name: str, said: str) -> BadLayout:
        """The error for an option that cannot be used, to be raised."""
        value = self.values.get(name)
        given = "" if name not in self.values else f" = {shown(value, 60)}"
        return self._bad((*self.where, name), said, given)

    def _bad(self, key: Key, said: str, given: str = "") -> BadLayout:
        at = self.sheet.written.where(key)
        said = cut(said, 600)
        return BadLayout(f"{at}: {cut(dotted(key))}{given}: {said}" if key else f"{at}: {said}")

    def _list(self, name: str) -> list[Any]:
        value = self.values.get(name)
        if value is not None and not isinstance(value, list):
            raise self.bad(name, "a list is needed")
        return value or []

    def _ruled(self, name: str, value: Any) -> tuple[Kind, str]:
        rules = self.sheet.rules
        rule = rules.find(self.section, name)
        if rule is None:
            known = [each for each in rules.sections[self.section] if "*" not in each]
            hint = nearest(name, known) if known else ""
            hint = hint if hint.startswith(",") else ""
            return "no equivalent", f"{rules.title} documents no such option{hint}; it is not used"
        idle = not value or value in rule.idle
        if rule.kind == "no equivalent" and idle:
            return "not needed", "asks for nothing at this value"
        if rule.kind == "mapped" and value is None:
            return "not needed", f"left to {rules.title}'s default"
        return rule.kind, rule.said


def _shown(name: str, value: Any) -> Any:
    """A value as notes may carry it, which are written and shown: without passwords and keys."""
    if isinstance(value, dict):
        return {inner: _shown(str(inner), each) for inner, each in value.items()}
    return "(hidden)" if value and SECRET.search(name) else value


def filled(**options: Any) -> dict[str, Any]:
    """What is set of some options; None, empty and false are what Frisket does by itself."""
    return {name: each for name, each in options.items() if each or type(each) in (int, float)}
