"""The ceilings of the measures: they only ever go down."""

import collections
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.house.measure import MEASURES
from tests.house.reading import Place

RATCHET = Path(__file__).parent / "ratchet.toml"
SHOWN = 20  # places that a message lists
HEAD = """\
# Faults against the house's rules that still stand, counted by tests/house/measure.py.
# They go down only: `python scripts/house.py --write` after mending some.
"""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """How many faults of a measure there may be, the size of the largest, and their names."""

    count: int
    largest: int
    names: Mapping[str, int]  # name -> how often


def measure_ceiling(places: Sequence[Place]) -> Ceiling:
    """The ceiling that just holds these faults."""
    names = collections.Counter(place.name or place.path for place in places)
    return Ceiling(len(places), max((place.size for place in places), default=0), names)


def read_ratchet(path: Path = RATCHET) -> dict[str, Ceiling]:
    """The ceilings on file; a measure that is not there has 0. {} where there is no file."""
    if not path.exists():
        return {}
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    ceilings = {}
    for measure, table in tables.items():
        pairs = (word.rpartition(":") for word in table["names"].split())
        names = {name: int(count) for name, _, count in pairs}
        ceilings[measure] = Ceiling(table["count"], table.get("largest", 0), names)
    return ceilings


def write_ratchet(ceilings: Mapping[str, Ceiling], path: Path = RATCHET) -> None:
    """Write the ceilings, the most frequent names first."""
    lines = [HEAD]
    for measure, ceiling in ceilings.items():
        ordered = sorted(ceiling.names.items(), key=lambda pair: (-pair[1], pair[0]))
        names = textwrap.wrap(" ".join(f"{name}:{count}" for name, count in ordered), 98)
        lines += [f"[{measure}]", f"count = {ceiling.count}"]
        lines += [f"largest = {ceiling.largest}"] if ceiling.largest else []
        lines += ['names = """', *names, '"""', ""]
    path.write_text("\n".join(lines), encoding="utf-8")


def find_rise(measure: str, places: Sequence[Place], ceiling: Ceiling) -> str | None:
    """What to say where a measure is above its ceiling: the new places and the fix; else None."""
    measured = measure_ceiling(places)
    if measured.count <= ceiling.count and measured.largest <= ceiling.largest:
        return None
    risen = [place for place in places if _is_risen(place, measured, ceiling)]
    listed = "".join(f"\n  src/frisket/{place}" for place in risen[:SHOWN])
    more = f"\n  and {len(risen) - SHOWN} more" if len(risen) > SHOWN else ""
    largest = f", largest {measured.largest} (at most {ceiling.largest})"
    return (
        f"{measure}: {measured.count} faults, at most {ceiling.count}"
        f"{largest if measured.largest > ceiling.largest else ''}."
        f" Fix: {MEASURES[measure][1]}. New among:{listed}{more}"
    )


def _is_risen(place: Place, measured: Ceiling, ceiling: Ceiling) -> bool:
    name = place.name or place.path
    return measured.names[name] > ceiling.names.get(name, 0) or place.size > ceiling.largest > 0


def find_slack(measure: str, places: Sequence[Place], ceiling: Ceiling) -> str | None:
    """What to say where a measure is below its ceiling, so that it stays there; else None."""
    measured = measure_ceiling(places)
    if measured.count >= ceiling.count and measured.largest >= ceiling.largest:
        return None
    return (
        f"{measure}: {measured.count} faults (largest {measured.largest}), and the ceiling is"
        f" {ceiling.count} ({ceiling.largest}). Lower it: python scripts/house.py --write"
    )
