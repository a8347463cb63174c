"""Weights of `[regions]` written into a TOML file: comments, order and everything else stay."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import ParseError

from frisket.config.load import ConfigError, read_layers
from frisket.config.tree import Config
from frisket.disk.atomic import replacing
from frisket.disk.untrusted import read_text

DIGITS = 4  # of a weight, as a slider gives it
_editing = threading.Lock()  # one reader and writer of a file at a time


@dataclass(frozen=True, slots=True)
class WeighedRegion:
    """One line of the table."""

    name: str
    weight: float
    phrase: str = ""


def list_regions(path: Path) -> list[WeighedRegion]:
    """The regions of a configuration in its order, `background` among them; ConfigError."""
    return _describe(read_layers(path)[0])


def write_weights(path: Path, weights: Mapping[str, float]) -> list[WeighedRegion]:
    """Set these weights and leave every other character of the file; the table as it is then.

    A region the table lacks is added at its end. ConfigError, with nothing written, where the file
    would no longer be a configuration.
    """
    with edit_config(path) as document:
        for name, weight in weights.items():
            _set_weight(document, name, float(f"{weight:.{DIGITS}g}"))
    return list_regions(path)


@contextmanager
def edit_config(path: Path) -> Iterator[tomlkit.TOMLDocument]:
    """The document of a file, to be changed in place; written, atomically, if it is still valid."""
    with _editing:
        try:
            document = tomlkit.parse(read_text(path))
        except (ParseError, ValueError) as error:
            raise ConfigError(f"{path.name}: no TOML ({error}); mend it in an editor") from error
        yield document
        with replacing(path) as draft:
            draft.write_text(tomlkit.dumps(document), encoding="utf-8")
            _check_draft(draft, path)


def _check_draft(draft: Path, path: Path) -> None:
    try:
        read_layers(draft)
    except ConfigError as error:  # in the words of the file it would have become
        raise ConfigError(str(error).replace(str(draft), str(path))) from error


def find_data_table(document: tomlkit.TOMLDocument, index: int) -> Any:
    """The `[[data]]` table of a data set, to be written into; ConfigError where there is none."""
    tables: Any = document.get("data")
    try:
        return tables[index] if isinstance(tables, list) else {0: tables}[index]
    except LookupError as error:
        raise ConfigError(f"there is no [[data]] of number {index + 1} any more") from error


def open_table(document: tomlkit.TOMLDocument) -> Any:
    """`[regions]` as a table that can be written into; one is made where there is none."""
    table = document.get("regions")
    if table is None:
        table = tomlkit.table()
        table.update({name: weight for name, weight in Config().region_weights.items()})
        document["regions"] = table
    elif isinstance(table, str):
        # Inline, where it stands: a [regions] here would take the keys that follow for its own.
        inline = tomlkit.inline_table()
        inline["preset"] = str(table)
        document["regions"] = inline
    return document["regions"]


def _set_weight(document: tomlkit.TOMLDocument, name: str, weight: float) -> None:
    table = open_table(document)
    entry = table.get(name)
    if isinstance(entry, dict):
        entry["weight"] = weight
    else:
        table[name] = weight


def _describe(config: Config) -> list[WeighedRegion]:
    phrases = config.phrases
    return [
        WeighedRegion(name, weight, phrases.get(name, ""))
        for name, weight in config.region_weights.items()
    ]
