"""Damaged trees as text: in their own format as far as it goes, else as JSON of any depth."""

import json
from collections.abc import Callable
from typing import Any


def text_of(tree: Any, dump: Callable[[Any], str]) -> str:
    """The tree by its format's writer, or as JSON where that cannot hold or nest such a value."""
    try:
        return dump(tree)
    except Exception:
        return json_of(tree)


def json_of(tree: Any) -> str:
    """JSON as `json.dumps` writes it, of any depth."""
    out: list[str] = []
    left: list[Any] = [(tree,)]  # a value is wrapped; what is not is text
    while left:
        each = left.pop()
        if isinstance(each, str):
            out.append(each)
            continue
        (value,) = each
        if isinstance(value, list):
            parts: list[Any] = ["["]
            for index, inner in enumerate(value):
                parts += [", " if index else "", (inner,)]
            left += reversed([*parts, "]"])
        elif isinstance(value, dict):
            parts = ["{"]
            for index, (name, inner) in enumerate(value.items()):
                parts += [f"{', ' if index else ''}{json.dumps(str(name))}: ", (inner,)]
            left += reversed([*parts, "}"])
        else:
            out.append(json.dumps(value))
    return "".join(out)


def brief(run: Callable[[], object], most: int = 9000) -> None:
    """Run, and see that what it is refused with is not endless."""
    try:
        run()
    except ValueError as error:
        if len(str(error)) > most:
            raise AssertionError(f"a message of {len(str(error))} letters") from error
        raise
