"""What a model may be used under; said before its first use."""

import logging
from dataclasses import dataclass

log = logging.getLogger(__name__)
_printed_warnings: set[tuple[str, str]] = set()  # in this process: of what, and the words


@dataclass(frozen=True, slots=True)
class Licence:
    """What code and weights may be used under; `warning` is said before the first use."""

    code: str
    weights: str
    warning: str = ""  # empty where there is nothing a user must know before use


def say_licence(name: str, licence: Licence) -> None:
    """Say what a user must know before `name` is first used: once a process, as a warning."""
    if licence.warning and (name, licence.warning) not in _printed_warnings:
        _printed_warnings.add((name, licence.warning))
        log.warning("%s: %s", name, licence.warning)
