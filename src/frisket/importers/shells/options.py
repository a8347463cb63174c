"""Options of a command line, typed as the training script's own parser types them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from frisket.importers.shells.words import MOST, Word

NEEDED = (  # text without which it is not known what is trained on, or how
    *("dataset_config", "config_file", "train_data_dir", "in_json", "reg_data_dir"),
    *(
        "network_module",
        "optimizer_type",
        "lr_scheduler",
        "timestep_sampling",
        "task",
        "resolution",
    ),
)


class BadShellOption(ValueError):
    """An option at which the script's parser would stop; `word` is where."""

    def __init__(self, message: str, word: Word) -> None:
        """Say what is wrong, and at which word."""
        super().__init__(message)
        self.message, self.word = message, word


@dataclass(slots=True)
class ParsedOptions:
    """What a command line sets: values and lines by option; what it leaves open, by option."""

    tree: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    open: dict[str, str] = field(default_factory=dict)  # text as written, variables by name
    stray: list[Word] = field(default_factory=list)  # words that belong to no option


@cache
def _read_tables() -> dict[str, Any]:
    text = (resources.files("frisket.importers.shells") / "options.json").read_text("utf-8")
    tables: dict[str, Any] = json.loads(text)
    return tables


@cache
def find_trainer(script: str) -> str:
    """The trainer whose training script it is, by its name in lower case; empty for none."""
    tables = _read_tables()
    if script in tables["kohya"]["scripts"]:
        return "kohya"
    scripts = {**tables["musubi"]["scripts"], **tables["blissful"]["scripts"]}
    return "musubi" if script in scripts else ""


@cache
def _list_options(trainer: str, script: str) -> dict[str, Mapping[str, Any]]:
    """The options of a script by flag ("--seed"), those of its trainer's other scripts after."""
    tables = _read_tables()
    rows_by_flag: dict[str, Mapping[str, Any]] = {}
    for name in ("musubi", "blissful") if trainer == "musubi" else (trainer,):
        table = tables[name]
        rows = {**table["options"], **table["differs"].get(script, {})}
        for option, row in rows.items():
            for flag in row["flags"]:
                rows_by_flag.setdefault(flag, {**row, "option": option})
    return rows_by_flag


def read_option_types(trainer: str) -> dict[str, str]:
    """The type of each option of a trainer by name: "int", "bool", "str" ..."""
    return {row["option"]: row["type"] for row in _list_options(trainer, "").values()}


def parse(words: Sequence[Word], trainer: str, script: str) -> ParsedOptions:
    """Read the words after a script's name.

    As argparse: `--name value`, `--name=value`, unambiguous beginnings of names, lists up to the
    next option, the last one wins. Options that no parser there knows are kept, with what follows:
    true for nothing, text for a word, a list for more. Raises BadShellOption.
    """
    rows, parsed = _list_options(trainer, script), ParsedOptions()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.text.startswith("-") or _is_number(word.text):
            parsed.stray.append(word)
            continue
        flag, equals, value = word.text.partition("=")
        row = rows.get(flag) or _complete_flag(flag, rows, word) or _describe_unknown(flag)
        values = [Word(value, word.line)] if equals else []
        limit = 1 if equals else _limit(row)
        while not equals and rest and len(values) < limit and _is_value(rest[0]):
            values.append(rest.pop(0))
        _put(parsed, row, word, values)
    return parsed


def parse_untyped(words: Sequence[Word]) -> dict[str, Any]:
    """Options that no table types: true for a switch, text for a value, a list for several."""
    parsed, rest = ParsedOptions(), list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.text.partition("=")
        values = [Word(value, word.line)] if equals else []
        while not equals and rest and _is_value(rest[0]):
            values.append(rest.pop(0))
        if flag.startswith("-"):
            _put(parsed, _describe_unknown(flag), word, values)
    return parsed.tree


def _complete_flag(flag: str, rows: Mapping[str, Mapping[str, Any]], word: Word) -> Any:
    names = {rows[name]["option"]: name for name in rows if name.startswith(flag)}
    if len(names) > 1 and flag.startswith("--"):
        listed = ", ".join(sorted(names.values()))
        raise BadShellOption(f"{flag} may be {listed}; write it out", word)
    return rows[next(iter(names.values()))] if names and flag.startswith("--") else None


def _describe_unknown(flag: str) -> dict[str, Any]:
    return {"option": flag.lstrip("-").replace("-", "_"), "action": "", "type": "str", "nargs": "*"}


def _limit(row: Mapping[str, Any]) -> int:
    if row["action"].startswith("store_"):
        return 0
    nargs = row.get("nargs", 1)
    words: dict[Any, int] = {"*": MOST, "+": MOST, "?": 1}
    return words.get(nargs, nargs if isinstance(nargs, int) else 1)


def _is_value(word: Word) -> bool:
    return not word.text.startswith("-") or _is_number(word.text) or " " in word.text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "-"
    return True


def _put(parsed: ParsedOptions, row: Mapping[str, Any], flag: Word, values: Sequence[Word]) -> None:
    option, action = row["option"], row["action"]
    parsed.tree.pop(option, None)
    parsed.open.pop(option, None)
    parsed.lines[option] = flag.line
    if action.startswith("store_"):
        if values:
            raise BadShellOption(f"{flag.label} takes no value", flag)
        parsed.tree[option] = action == "store_true"
    elif not values and action and row.get("nargs") != "*":
        raise BadShellOption(f"{flag.label} needs a value", flag)
    elif any(word.unknown for word in values):
        parsed.open[option] = _leave_open(row, flag, values)
    else:
        parsed.tree[option] = _read_values(row, values)


def _leave_open(row: Mapping[str, Any], flag: Word, values: Sequence[Word]) -> str:
    """What an option holds that the file does not set; BadShellOption where training needs it."""
    option, text = row["option"], " ".join(word.label for word in values)
    if row["type"] != "str" or option in NEEDED:
        name = next(name for word in values for name in word.unknown)
        message = f"--{option} is {text}, and {name} is not set by the file: write its value there"
        raise BadShellOption(message, flag)
    return text


def _read_values(row: Mapping[str, Any], words: Sequence[Word]) -> Any:
    """The values of an option: a list where it takes one, true where nothing follows it."""
    values = [convert_word(row["type"], word, row["option"]) for word in words]
    if isinstance(row.get("nargs"), str | int) and row["action"]:
        return values
    return values[0] if len(values) == 1 else values or True


def convert_word(kind: str, word: Word, option: str) -> Any:
    """A word as the type of an option has it; BadShellOption for one that is none of it."""
    readers: dict[str, tuple[Callable[[str], Any], str]] = {
        "int": (int, "a whole number"),
        "float": (float, "a number"),
        "int_or_float": (_parse_steps, "a number, or a share such as 10%"),
        "_int_or_float": (_parse_steps, "a number, or a share such as 10%"),
    }
    if kind not in readers:
        return word.text
    reader, description = readers[kind]
    try:
        return reader(word.text)
    except (ValueError, OverflowError) as error:
        raise BadShellOption(
            f"--{option} {word.text[:60]}: {description} is needed", word
        ) from error


def _parse_steps(text: str) -> int | float:
    """Steps, or below 1 a share of all; `10%` is one too."""
    if text.endswith("%"):
        return float(text[:-1]) / 100
    number = float(text)
    return int(text) if number >= 1 and number.is_integer() else number
