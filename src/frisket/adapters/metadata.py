"""What a stranger's file says beside its tensors: JSON read with care, and words fit to show."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frisket.disk.untrusted import BadText, parse_json, read_text

LONGEST = 4_000_000  # letters of one entry: a record of every layer of a large model has 200,000
SHOWN = 200


class UnreadableMetadata(ValueError):
    """An entry that is no JSON of the wanted form; the message says why, after its name."""


def parse(text: str, what: str) -> Any:
    """The JSON in a text; Unreadable for anything else, nested too deep or too long."""
    if len(text) > LONGEST:
        raise UnreadableMetadata(
            f"{what} is {len(text):,} letters long; at most {LONGEST:,} are read"
        )
    try:
        return parse_json(text)
    except BadText as error:
        raise UnreadableMetadata(f"{what} is no JSON that can be read ({error})") from error


def entry(metadata: Mapping[str, str], key: str) -> dict[str, Any] | None:
    """The JSON object in an entry of a file's metadata, None where there is no such entry."""
    if key not in metadata:
        return None
    what = f"its metadata entry {key}"
    parsed = parse(metadata[key], what)
    if not isinstance(parsed, dict):
        raise UnreadableMetadata(f"{what} is {_name_type(parsed)}, not an object")
    return parsed


def span(metadata: Mapping[str, str], key: str) -> tuple[float, float] | None:
    """The two finite numbers in an entry, None where there is no such entry."""
    if key not in metadata:
        return None
    what = f"its metadata entry {key}"
    parsed = parse(metadata[key], what)
    if not isinstance(parsed, list) or len(parsed) != 2 or not all(map(is_number, parsed)):
        raise UnreadableMetadata(f"{what} is {_name_type(parsed)}, not a list of two numbers")
    return float(parsed[0]), float(parsed[1])


def config(path: Path) -> dict[str, Any]:
    """The JSON object in a small file beside an adapter; Unreadable names the file."""
    try:
        text = read_text(path, LONGEST)
    except BadText as error:
        raise UnreadableMetadata(f"{path} {error}") from error
    parsed = parse(text, str(path))
    if not isinstance(parsed, dict):
        raise UnreadableMetadata(f"{path} holds {_name_type(parsed)}, not an object")
    return parsed


def is_number(value: object) -> bool:
    """Whether it is a finite number that float32 holds (true and false are none)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 3e38 and math.isfinite(value)


def is_whole(value: object) -> bool:
    """Whether it is a whole number of a size that a rank can have."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def show_text(text: str, longest: int = SHOWN) -> str:
    """A stranger's words without what would drive a terminal, cut where they are long."""
    plain = "".join(letter if letter.isprintable() else "?" for letter in text)
    return plain if len(plain) <= longest else f"{plain[:longest]}..."


def _name_type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if value is None:
        return "null"
    return names.get(type(value), "a number")
