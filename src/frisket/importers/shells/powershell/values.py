"""Values of PowerShell as far as training scripts use them: text, numbers, switches, lists."""

import fnmatch
from collections.abc import Callable
from typing import Any

from frisket.importers.shells.words import hole, known

NULL = None


def text_of(value: Any) -> str:
    """A value within text: numbers in their shortest form, nothing for null."""
    if value is NULL:
        return ""
    if isinstance(value, list):
        return " ".join(map(text_of, value))
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def open_in(value: Any) -> bool:
    """Whether a value is not known."""
    return isinstance(value, str) and not known(value)


def truth_of(value: Any) -> bool | None:
    """Whether a value counts as true; None where it is not known."""
    if open_in(value):
        return None
    if isinstance(value, list) and len(value) == 1:
        return truth_of(value[0])
    return bool(value)


def compare(left: Any, sign: str, right: Any) -> Any:
    """`-eq` and its like: the right side becomes what the left is, letters' case does not matter.

    What cannot be known, and any sign that is not known, gives an open value.
    """
    if open_in(left) or open_in(right):
        return hole(f"-{sign}")
    plain = sign.removeprefix("i").removeprefix("c") if sign not in ("contains", "in") else sign
    if plain in ("like", "notlike"):
        matches = fnmatch.fnmatchcase(text_of(left).lower(), text_of(right).lower())
        return matches is (plain == "like")
    if plain in ("contains", "in"):
        holder, item = (left, right) if plain == "contains" else (right, left)
        items = holder if isinstance(holder, list) else [holder]
        return any(_same(member, item) for member in items)
    if plain in ("eq", "ne"):
        return _same(left, right) is (plain == "eq")
    order = _compare_numbers(left, plain, right)
    return hole(f"-{sign}") if order is None else order


def _compare_numbers(left: Any, sign: str, right: Any) -> bool | None:
    """Whether `-lt` or its like holds; None for another sign, or a side that is no number."""
    orders: dict[str, Callable[[float, float], bool]] = {
        "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b,
        "gt": lambda a, b: a > b,
        "ge": lambda a, b: a >= b,
    }
    first, second = _number(left), _number(right)
    if sign not in orders or first is None or second is None:
        return None
    return orders[sign](first, second)


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, bool):
        return left is bool(right)
    if isinstance(left, int | float):
        number = _number(right) if right is not NULL else None
        return number is not None and left == number
    if left is NULL or right is NULL:
        return left is right
    return text_of(left).lower() == text_of(right).lower()


def _number(value: Any) -> float | None:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return None


def added(left: Any, right: Any) -> Any:
    """`+`: lists grow, numbers add up, anything else is joined as text."""
    if left is NULL:
        return right
    if isinstance(left, list):
        return [*left, *(right if isinstance(right, list) else [right])]
    numbers = [each for each in (left, right) if type(each) in (int, float)]
    return sum(numbers) if len(numbers) == 2 else text_of(left) + text_of(right)
