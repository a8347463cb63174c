"""What a model may be used under; said before its first use."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Licence:
    """What code and weights may be used under; `warning` is said before the first use."""

    code: str
    weights: str
    warning: str = ""  # empty where there is nothing a user must know before use
