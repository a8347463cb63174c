"""Values of PowerShell as far as training scripts use them: text, numbers, switches, lists."""

import fnmatch
from collections.abc import Callable
from typing import Any

from frisket.importers.shells.words import is_known, mark_hole

NULL = None


def as_text(value: Any) -> str:
    """A value within text: numbers in their shortest form, nothing for null."""
    if value is NULL:
        return ""
    if isinstance(value, list):
        return " ".join(map(as_text, value))
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def is_open(value: Any) -> bool:
    """Whether a value is not known."""
    return isinstance(value, str) and not is_known(value)


def as_truth(value: Any) -> bool | None:
    """Whether a value counts as true; None where it is not known."""
    if is_open(value):
        return None
    if isinstance(value, list) and len(value) == 1:
        return as_truth(value[0])
    return bool(value)


def compare(left: Any, sign: str, right: Any) -> Any:
    """`-eq` and its like: the right side becomes what the left is, letters' case does not matter.

    What cannot be known, and any sign that is not known, gives an open value.
    """
    if is_open(left) or is_open(right):
        return mark_hole(f"-{sign}")
    operator = sign.removeprefix("i").removeprefix("c") if sign not in ("contains", "in") else sign
    if operator in ("like", "notlike"):
        matches = fnmatch.fnmatchcase(as_text(left).lower(), as_text(right).lower())
        return matches is (operator == "like")
    if operator in ("contains", "in"):
        holder, item = (left, right) if operator == "contains" else (right, left)
        items = holder if isinstance(holder, list) else [holder]
        return any(_is_same(member, item) for member in items)
    if operator in ("eq", "ne"):
        return _is_same(left, right) is (operator == "eq")
    order = _compare_numbers(left, operator, right)
    return mark_hole(f"-{sign}") if order is None else order


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


def _is_same(left: Any, right: Any) -> bool:
    if isinstance(left, bool):
        return left is bool(right)
    if isinstance(left, int | float):
        number = _number(right) if right is not NULL else None
        return number is not None and left == number
    if left is NULL or right is NULL:
        return left is right
    return as_text(left).lower() == as_text(right).lower()


def _number(value: Any) -> float | None:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return None


def add_values(left: Any, right: Any) -> Any:
    """`+`: lists grow, numbers add up, anything else is joined as text."""
    if left is NULL:
        return right
    if isinstance(left, list):
        return [*left, *(right if isinstance(right, list) else [right])]
    numbers = [side for side in (left, right) if type(side) in (int, float)]
    return sum(numbers) if len(numbers) == 2 else as_text(left) + as_text(right)
