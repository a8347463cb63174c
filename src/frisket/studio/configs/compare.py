"""Two configurations held against each other, key by key, with every default laid out."""

from collections.abc import Iterator
from typing import Any

from frisket.config.tree import Config
from frisket.studio.configs.edit import to_plain

ABSENT = object()


def compare_configs(before: Config, after: Config) -> list[dict[str, Any]]:
    """Every key whose value differs: its key, both values, None (and `had`/`has` false) for none.

    Where both have as many data sets these are compared one by one, else as whole lists.
    """
    old, new = (config.model_dump(mode="json") for config in (before, after))
    return list(_compare((), old, new))


def _compare(key: tuple[str | int, ...], old: Any, new: Any) -> Iterator[dict[str, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys((*old, *new)):
            yield from _compare((*key, name), old.get(name, ABSENT), new.get(name, ABSENT))
    elif _are_tables(old) and _are_tables(new) and len(old) == len(new):
        for place, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _compare((*key, place), left, right)
    elif old is ABSENT or new is ABSENT or old != new:
        yield _describe_change(key, old, new)


def _describe_change(key: tuple[str | int, ...], old: Any, new: Any) -> dict[str, Any]:
    before, after = (None if side is ABSENT else to_plain(side) for side in (old, new))
    had, has = old is not ABSENT, new is not ABSENT
    return {"key": list(key), "before": before, "after": after, "had": had, "has": has}


def _are_tables(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
