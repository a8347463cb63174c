"""Changes one key of a configuration's text at a time: comments, order and spacing stay."""

import math
import tomllib
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Array, InlineTable, Table

from frisket.config.data import MaskSource
from frisket.disk.toml_lines import Key
from frisket.disk.untrusted import BadText, parse_toml, show

RAW = "$toml"  # a value that JSON has no form for, as TOML writes it: {"$toml": "inf"}
EXACT = 1 << 53  # whole numbers up to it are the same in a browser
MASK_KEYS = frozenset(MaskSource.model_fields)
MASK_WORDS = ("alpha", "sidecar", "listed", "none")  # of `masks`, that are no folder


class CannotEdit(ValueError):
    """A change that this text does not take; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class TreeChange:
    """A key set to a value (plain JSON), taken out (`remove`), or moved to another key (`to`)."""

    key: Key
    value: Any = None
    remove: bool = False
    to: Key = ()


def to_plain(value: Any) -> Any:
    """A parsed TOML value as JSON that a browser reads exactly; the rest as {"$toml": text}."""
    if isinstance(value, dict):
        return {name: to_plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [to_plain(inner) for inner in value]
    exact = not isinstance(value, int) or abs(value) <= EXACT
    finite = not isinstance(value, float) or math.isfinite(value)
    if isinstance(value, date | datetime | time) or not exact or not finite:
        return {RAW: tomlkit.item(value).as_string()}
    return value


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain`; CannotEdit for what TOML has no form for."""
    if isinstance(value, dict) and set(value) == {RAW}:
        try:
            (parsed,) = parse_toml(f"value = {value[RAW]}").items()
        except ValueError as error:  # BadText, or more than one line
            raise CannotEdit(f"{show(value[RAW])} is no TOML value ({error})") from error
        return parsed[1]
    if isinstance(value, dict):
        return {str(name): from_plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [from_plain(inner) for inner in value]
    if value is None:
        raise CannotEdit("TOML has no null: take the key out instead")
    return value


def apply_changes(text: str, changes: Sequence[TreeChange]) -> str:
    """The text with every change made, in their order.

    Each result is read again and held against what was wanted, so that no other key can change.
    CannotEdit for a text that is no TOML or a key that is not there; the text is then as it was.
    """
    for change in changes:
        text = _apply(text, change)
    return text


def _apply(text: str, change: TreeChange) -> str:
    try:
        plain_tree, document = parse_toml(text), tomlkit.parse(text)
    except (BadText, TOMLKitError, ValueError) as error:
        raise CannotEdit(f"this text is no TOML ({error}); mend it first") from error
    try:
        if not _change_both(plain_tree, document, change):
            return text  # as it is written: 1e-4 stays 1e-4
        changed = tomlkit.dumps(document)
        is_same = _is_same(tomllib.loads(changed), plain_tree)
    except (TOMLKitError, tomllib.TOMLDecodeError, LookupError, TypeError) as error:
        raise CannotEdit(
            f"{_name(change.key)}: the form cannot change it in this text ({error!r})"
        ) from error
    if not is_same:
        raise CannotEdit(
            f"{_name(change.key)}: the form cannot change it as this text is laid out; do it there"
        )
    return changed


def _change_both(plain_tree: dict[str, Any], document: Any, change: TreeChange) -> bool:
    """Make a change in a plain tree and in its document; False where it says so already."""
    if change.remove or change.to:
        value = deepcopy(_find(plain_tree, change.key))
        removed = _remove(document, change.key)
        del _find(plain_tree, removed[:-1])[removed[-1]]
    else:
        value = from_plain(change.value)
        if _is_set(plain_tree, change.key, value):
            return False
    if not change.remove:
        _set(plain_tree, change.to or change.key, value)
        _set_item(document, change.to or change.key, value)
    return True


def _is_set(tree: Any, key: Key, value: Any) -> bool:
    try:
        old = _find(tree, key)
    except CannotEdit:
        return False
    return _is_same(old, _keep_point(value, {"": old}, ""))


def _is_same(left: Any, right: Any) -> bool:
    """Equal in type and value, NaN equal to NaN."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_is_same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_is_same, left, right))
    return type(left) is type(right) and repr(left) == repr(right)


def _name(key: Key) -> str:
    return ".".join(map(str, key))


def _find(tree: Any, key: Key) -> Any:
    for part in key:
        try:
            tree = tree[part]
        except (LookupError, TypeError) as error:
            raise CannotEdit(f"{_name(key)} is not there") from error
    return tree


def _remove(document: Any, key: Key) -> Key:
    """Take a key out, and what is empty then and holds no comment; returns what went.

    The last of a list of tables ([[identity]]) goes with its last key, and the list with it; an
    earlier one stays, as those behind it are called by their number.
    """
    del _find(document, key[:-1])[key[-1]]
    while len(key) > 1 and _is_bare(_find(document, key[:-1])):
        entries, last = _find(document, key[:-2]), key[-2]
        if isinstance(last, int) and (not isinstance(entries, AoT) or last != len(entries) - 1):
            break
        key = key[:-1]
        del entries[last]
    return key


def _is_bare(table: Any) -> bool:
    """Whether a table or a list of tables has nothing in it that anyone wrote."""
    if isinstance(table, AoT):
        return not len(table)
    is_table = isinstance(table, Table | InlineTable)
    return is_table and not len(table) and "#" not in table.as_string()


def _set(tree: Any, key: Key, value: Any) -> None:
    """Set a key of a plain tree, tables made on the way; a list grows by its next free number."""
    for place, part in enumerate(key[:-1]):
        if isinstance(tree, list):
            _grow(tree, part, {})
        elif part not in tree:
            tree[part] = [] if isinstance(key[place + 1], int) else {}
        elif (
            open_table := open_shorthand(key[: place + 1], tree[part], key[place + 1])
        ) is not None:
            tree[part] = open_table
        tree = tree[part]
    if isinstance(tree, list):
        _grow(tree, key[-1], value)
    tree[key[-1]] = _keep_point(value, tree, key[-1])


def _set_item(tree: Any, key: Key, value: Any) -> None:
    """As `_set`, in a tomlkit document."""
    inline = False
    for place in range(len(key) - 1):
        tree = _enter(tree, key, place, inline=inline)
        listed = isinstance(tree, list) and not isinstance(tree, AoT)
        inline = inline or listed or isinstance(tree, InlineTable)
    last, inside = key[-1], inline or len(key) > 1  # below a section tables stand on one line
    item = _make_item(_keep_point(value, tree, last), inline=inside)
    if isinstance(tree, list):
        _grow(tree, last, item)
    elif isinstance(item, Array) and last in tree and "\n" in _write(tree[last]):
        item.multiline(multiline=True)
    tree[last] = item


def _enter(tree: Any, key: Key, place: int, *, inline: bool) -> Any:
    """What stands at one part of a key, made or opened where it has to be."""
    part, following = key[place], key[place + 1]
    if isinstance(tree, list):
        _grow(tree, part, _make_table({}, inline=not isinstance(tree, AoT)))
    elif part not in tree:
        listed = isinstance(following, int)
        tree[part] = _make_list(inline=inline) if listed else _make_table({}, inline=inline)
    else:
        open_table = open_shorthand(key[: place + 1], _unwrap(tree[part]), following)
        if open_table is not None:
            tree[part] = _make_table(open_table, inline=True)
    return tree[part]


def _write(item: Any) -> str:
    return item.as_string() if hasattr(item, "as_string") else ""


def _grow(entries: list[Any], part: Any, entry: Any) -> None:
    if not isinstance(part, int):
        raise CannotEdit(f"{part!r} is no place in a list")
    if part == len(entries):
        entries.append(entry)


def _unwrap(item: Any) -> Any:
    return item.unwrap() if hasattr(item, "unwrap") else item


def _keep_point(value: Any, tree: Any, part: Any) -> Any:
    """A whole number as one with a point, where one stood: 1.0 does not become 1."""
    try:
        old = _unwrap(tree[part])
    except (LookupError, TypeError):
        return value
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole and isinstance(old, float) else value


def _make_item(value: Any, *, inline: bool) -> Any:
    if isinstance(value, dict):
        return _make_table(value, inline=inline)
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        entries = _make_list(inline=inline)
        for entry in value:
            entries.append(_make_table(entry, inline=inline))
        return entries
    if isinstance(value, list):
        array = tomlkit.array()
        for entry in value:
            array.append(_make_item(entry, inline=True))
        return array
    return tomlkit.item(value)


def _make_list(*, inline: bool) -> Any:
    return tomlkit.array() if inline else tomlkit.aot()


def _make_table(values: dict[str, Any], *, inline: bool) -> Any:
    table: Any = tomlkit.inline_table() if inline else tomlkit.table()
    for name, value in values.items():
        table[name] = _make_item(value, inline=True)
    return table


def open_shorthand(key: Key, value: Any, following: Any) -> dict[str, Any] | None:
    """The whole table behind a short form, where a key inside it is to be set; None for no such.

    A loss term's strength, a region's weight, the name of a preset, and `masks` as a word, folder
    or table of folders.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and len(key) == 2 and key[0] in ("losses", "regions"):
        return {"strength" if key[0] == "losses" else "weight": value}
    if key == ("regions",) and isinstance(value, str):
        return {"preset": value}
    return _open_masks(value) if key[-1] == "masks" and following in MASK_KEYS else None


def _open_masks(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):
        return {"source": value} if value in MASK_WORDS else {"source": "folder", "path": value}
    if isinstance(value, dict) and value and not MASK_KEYS & set(value):
        return {"source": "regions", "regions": value}
    return None
