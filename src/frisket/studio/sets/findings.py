"""What `frisket inspect` last wrote down of a configuration's clips; nothing is looked at here."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from frisket.config.load import ConfigError, load
from frisket.studio.sets.listing import Trouble
from frisket.studio.sets.plan import SetPlan

LARGEST = 1 << 28  # bytes of a findings.json
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """The last look at a configuration: when, and what was found."""

    at: float
    troubles: tuple[Trouble, ...]


def locate_findings(config: Path) -> Path | None:
    """Where `frisket inspect CONFIG` writes its findings; None for a configuration that is wrong.

    Always run.output/inspect: a look with `--output` is somebody's own.
    """
    try:
        stat = config.stat()
        return _locate(config, (stat.st_mtime_ns, stat.st_size))
    except (ConfigError, OSError):
        return None


@lru_cache(maxsize=32)
def _locate(config: Path, stamp: tuple[int, int]) -> Path:  # noqa: ARG001 -- part of the key
    return load(config).run.output / "inspect" / "findings.json"


def read_inspection(config: Path) -> Inspection | None:
    """The last inspection of a configuration; None where there is none, or it cannot be read."""
    path = locate_findings(config)
    try:
        if path is None:
            return None
        stat = path.stat()
        if stat.st_size > LARGEST:
            return None
        return _read(path, (stat.st_mtime_ns, stat.st_size))
    except (OSError, ValueError, TypeError, KeyError):
        return None


@lru_cache(maxsize=8)
def _read(path: Path, stamp: tuple[int, int]) -> Inspection:
    troubles = tuple(
        Trouble(*(str(row[key])[:4000] for key in ("kind", "severity", "clip", "sentence", "fix")))
        for row in json.loads(path.read_text("utf-8"))
        if row["severity"] in SEVERITIES
    )
    return Inspection(stamp[0] / 1e9, troubles)


def group_findings(plan: SetPlan) -> dict[str, tuple[Trouble, ...]]:
    """The last findings by the clip's name, "" for those of the whole set."""
    config = plan.clip_set.config
    inspection = None if config is None else read_inspection(config)
    return {} if inspection is None else _group(inspection)


@lru_cache(maxsize=8)
def _group(inspection: Inspection) -> dict[str, tuple[Trouble, ...]]:
    groups: dict[str, list[Trouble]] = {}
    for trouble in inspection.troubles:
        groups.setdefault(trouble.clip, []).append(trouble)
    return {clip: tuple(troubles) for clip, troubles in groups.items()}
