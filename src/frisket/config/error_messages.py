"""Says in a sentence what pydantic found wrong with a config, where, and what would be right."""

import re
import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from frisket.config.other_trainers import PRECISIONS, find_key
from frisket.config.provenance import ConfigError, Key, Origin, join_key
from frisket.config.tree import Config, Section
from frisket.disk.untrusted import cut, show
from frisket.families.text_training import TEXT_ENCODERS
from frisket.registry import find_nearest

TEXT = re.compile(r"text_?encoder|^(train_)?te\d?($|_)|^text_(lr|rate)|_te\d?$", re.IGNORECASE)
SHOWN = 8  # problems named at once
ROW = 1000  # letters of one problem: names and values of a stranger's file may be endless
NAME = 80  # letters of a key


def explain(error: ValidationError, tree: dict[str, Any], origin: Origin) -> ConfigError:
    """The error to be raised: one line a problem, the choices of a union joined."""
    problems: dict[Key, list[str]] = {}
    for detail in error.errors(include_url=False):
        key = _place(detail, tree)
        message = problem(detail, key)
        if message not in problems.setdefault(key, []):
            problems[key].append(message)
    pairs = [(key, cut(_join(messages), ROW)) for key, messages in problems.items()]
    rows = [f"{origin.where(key)}: {message}" for key, message in pairs]
    more = [f"and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else []
    return ConfigError("\n".join(rows[:SHOWN] + more), origin.refuse_all(pairs).problems)


def _join(messages: list[str]) -> str:
    """`x should be A, got v` and `x should be B, got v` as one sentence."""
    parts = [
        re.fullmatch(r"(`.*` should be )(.*?)(, got .*)", message, re.DOTALL)
        for message in messages
    ]
    if len(messages) == 1 or None in parts:
        return "; ".join(messages)
    matches = [part for part in parts if part]
    return matches[0][1] + " or ".join(part[2] for part in matches) + matches[0][3]


def _place(detail: ErrorDetails, tree: Any) -> Key:
    """The error's location as far as it is a place in the file (unions add their own names)."""
    key: Key = ()
    for part in detail["loc"]:
        inside = isinstance(tree, dict) and part in tree
        listed = isinstance(tree, list) and isinstance(part, int) and part < len(tree)
        if inside or listed:
            tree, key = tree[part], (*key, part)
        elif detail["type"] == "missing" and isinstance(tree, dict):
            return (*key, part)
        else:
            break
    section = str(detail["msg"]).removeprefix("Value error, ").partition(":")[0]
    return (section,) if not key and section in Config.model_fields else key


def problem(detail: ErrorDetails, key: Key) -> str:
    """One pydantic error about `key` as a sentence."""
    name = join_key(key)
    if detail["type"] == "extra_forbidden":
        return _unknown(key)
    if detail["type"] == "missing":
        section = _section(key[:-1])
        meaning = section.model_fields[str(key[-1])].description if section else ""
        return f"{_title(key[:-1])} needs `{key[-1]}`: {meaning}".rstrip(": ")
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return message
    return _explain_value(name, message, detail["input"]) + _suggest_key(key)


PLAINLY = (
    (r"^Input is not a valid path.*", "Input should be a path in quotes"),
    (r", unable to parse.*", ""),
    (r"^Input should be (a valid )?", ""),
    (r"^(an? )?tuple$", "a list"),
    (r"^(an? )?dictionary( or instance of \w+)?$", "a table"),
    (r"^string$", "text in quotes"),
    (r"^integer$", "a whole number"),
    (r"^number$", "a number"),
    (r"^boolean$", "true or false"),
)


def _explain_value(name: str, message: str, value: Any) -> str:
    """Pydantic's message as `name` should be ..., got ...; its other messages as they are."""
    plain = message
    for pattern, words in PLAINLY:
        plain = re.sub(pattern, words, plain, flags=re.DOTALL)
    if not message.startswith("Input "):
        return f"`{name}`: {message}, got {show(value)}"
    if isinstance(value, str) and (meant := PRECISIONS.get(value)) and f"'{meant}'" in plain:
        return f"`{name}` should be {plain}, got {show(value)}, did you mean `{meant}`?"
    hint = _near(value, re.findall(r"'([^']*)'", plain)) if isinstance(value, str) else ""
    return f"`{name}` should be {plain}, got {show(value)}{hint}"


def _suggest_key(key: Key) -> str:
    """A hint where a section takes any key and this one looks like a slip of a known one."""
    section = _section(key[:-1])
    free = section is not None and section.model_config.get("extra") == "allow"
    if section is None or not free or str(key[-1]) in section.model_fields:
        return ""
    return _near(str(key[-1]), list(section.model_fields))


def _title(key: Key) -> str:
    """A section as its header writes it."""
    names = [str(part) for part in key if isinstance(part, str)]
    listed = bool(key) and isinstance(key[-1], int)
    return f"[[{'.'.join(names)}]]" if listed else f"[{'.'.join(names)}]"


def _unknown(key: Key) -> str:
    """An unknown key, the nearest known one, or the section it belongs in."""
    name, section = cut(str(key[-1]), NAME), _section(key[:-1]) or Config
    known = list(section.model_fields)
    message = f"unknown key `{name}` in {_title(key[:-1])}" if key[:-1] else f"unknown key `{name}`"
    if here := find_key(name):
        return f"{message}; here it is `{here}`"
    if TEXT.search(name):
        return f"{message}: {TEXT_ENCODERS}"
    if hint := _near(name, known):
        return message + hint
    homes = [title for title, other in sections() if name in other.model_fields]
    if homes:
        return f"{message}; it belongs in {' or '.join(homes)}"
    return f"{message}; there are: {', '.join(known)}"


def _near(name: str, known: Sequence[str]) -> str:
    close = find_nearest(name, known, cutoff=0.6)
    return (
        f", did you mean {' or '.join(f'`{candidate}`' for candidate in close)}?" if close else ""
    )


def sections() -> Iterator[tuple[str, type[Section]]]:
    """Every section of the configuration with its header: ("[lora]", Lora), ..."""
    for name, info in Config.model_fields.items():
        inner = _inner(info.annotation)
        if inner is None:
            continue
        listed = typing.get_origin(info.annotation) is tuple
        yield (f"[[{name}]]" if listed else f"[{name}]"), inner
        for deeper, its in inner.model_fields.items():
            if below := _inner(its.annotation):
                many = typing.get_origin(its.annotation) is tuple
                yield (f"[[{name}.{deeper}]]" if many else f"[{name}.{deeper}]"), below


def _inner(annotation: Any) -> type[Section] | None:
    """The Section in an annotation: itself, or the entry of a tuple."""
    if typing.get_origin(annotation) in (tuple, typing.Union, types.UnionType):
        return next(filter(None, map(_inner, typing.get_args(annotation))), None)
    fits = isinstance(annotation, type) and issubclass(annotation, Section)
    return annotation if fits else None


def _section(key: Key) -> type[Section] | None:
    """The Section a key leads to, None where it leads to a plain value."""
    section: type[Section] | None = Config
    for part in key:
        if isinstance(part, str) and section is not None:
            info = section.model_fields.get(part)
            section = _inner(info.annotation) if info else None
    return section


def or_all(name: str, known: Sequence[str]) -> str:
    """A hint at the nearest known name, or at all of them."""
    return _near(name, known) or f"; there are: {', '.join(known)}"
