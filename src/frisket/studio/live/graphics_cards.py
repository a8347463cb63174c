"""The cards of this machine, asked of the driver's own program: no torch."""

import subprocess
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

QUERY = "name,memory.total,memory.used,utilization.gpu,temperature.gpu"
FIELDS = ("total_mib", "used_mib", "busy_percent", "celsius")
FRESH = 2  # seconds that an answer is good for


@dataclass(frozen=True, slots=True)
class GraphicsCard:
    """A card as it is now; numbers that the driver does not say are None."""

    index: int
    name: str
    total_mib: float | None
    used_mib: float | None
    busy_percent: float | None
    celsius: float | None


def list_cards() -> tuple[GraphicsCard, ...]:
    """All that `nvidia-smi` sees, none where it is not there."""
    return _ask(int(time.monotonic() / FRESH))


@lru_cache(maxsize=2)
def _ask(_: int) -> tuple[GraphicsCard, ...]:
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_cards(answer.stdout)


def parse_cards(text: str) -> tuple[GraphicsCard, ...]:
    """The lines of `nvidia-smi`, one a card."""
    rows = []
    for index, line in enumerate(filter(None, map(str.strip, text.splitlines()))):
        name, *values = (part.strip() for part in line.rsplit(",", len(FIELDS)))
        numbers: dict[str, Any] = dict(zip(FIELDS, map(_read_number, values), strict=False))
        rows.append(GraphicsCard(index, name, *(numbers.get(field) for field in FIELDS)))
    return tuple(rows)


def _read_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return None
