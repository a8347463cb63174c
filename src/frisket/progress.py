"""How far a command is: what is called with each step of work, and what shows it."""

from collections.abc import Callable
from contextlib import AbstractContextManager

# (stage, how many are done, how many there are); training adds the values of the step.
Progress = Callable[..., None]
Bar = Callable[[], AbstractContextManager[Progress]]


def spell_time(seconds: float) -> str:
    """A stretch of time as one reads it: 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
