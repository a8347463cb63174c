"""The runs that are watched: the columns of each, kept between two requests."""

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import Request

from frisket.disk.untrusted import ANNOTATIONS, BadText, parse_json, read_text
from frisket.studio.live.tail import MetricsColumns
from frisket.studio.runs.index import RunFolder
from frisket.studio.workspace import Workspace, WorkspaceClip

MOST_TAILS = 16  # runs whose columns are held
PAUSE = 5.0  # seconds between two looks for a clip that no data set had


class LiveRuns:
    """Columns of the runs that were asked for last. Safe over threads: one reads at a time."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._tails: OrderedDict[Path, MetricsColumns] = OrderedDict()
        self._clips: dict[Path, tuple[int, list[dict[str, Any]]]] = {}
        self._files: dict[Path, WorkspaceClip] = {}
        self._listed = -math.inf
        self._lock = threading.Lock()

    @contextmanager
    def read(self, folder: Path) -> Iterator[MetricsColumns]:
        """The columns of a run, up to its last line; they are yours within the block."""
        with self._lock:
            tail = self._tails.pop(folder, None) or MetricsColumns(folder / "metrics.jsonl")
            self._tails[folder] = tail
            while len(self._tails) > MOST_TAILS:
                oldest, _ = self._tails.popitem(last=False)
                self._clips.pop(oldest, None)
            tail.update()
            yield tail

    def read_clips(self, folder: Path) -> list[dict[str, Any]]:
        """The run's own list of what it trains on; empty where it kept none that can be read."""
        path = folder / "clips.json"
        try:
            mtime_ns = path.stat().st_mtime_ns
        except OSError:
            return []
        entry = self._clips.get(folder)
        if entry is None or entry[0] != mtime_ns:
            try:
                entries = parse_json(read_text(path, ANNOTATIONS))["clips"]
                clips = [entry for entry in entries if isinstance(entry, dict)]
            except (BadText, OSError, LookupError, TypeError):
                clips = []
            entry = self._clips[folder] = (mtime_ns, clips)
        return entry[1]

    def find_clip(self, workspace: Workspace, run: RunFolder, path: Path) -> WorkspaceClip | None:
        """A clip of the workspace by its file; None where no data set of the opened folder has it.

        Of several data sets with the file, that of the run's own configuration is meant.
        """
        path = path.resolve()
        now = time.monotonic()
        with self._lock:
            if path not in self._files and now - self._listed > PAUSE:
                self._listed = now
                sets = sorted(
                    workspace.list_sets(), key=lambda clip_set: clip_set.config == run.config
                )
                self._files = {
                    clip.path.resolve(): clip
                    for clip_set in sets
                    for clip in workspace.list_clips(clip_set)
                }
            return self._files.get(path)


def get_live(request: Request) -> LiveRuns:
    """The watched runs of this server."""
    state = request.app.state
    if not hasattr(state, "live_runs"):
        state.live_runs = LiveRuns()
    live: LiveRuns = state.live_runs
    return live


def read_banner(folder: Path) -> dict[str, Any]:
    """What a run said before its first step: rows, warnings, batches an epoch; {} where not."""
    try:
        content = json.loads(read_text(folder / "banner.json"))
        rows = [(str(name), str(value)) for name, value in content["rows"]]
        warnings = [str(line) for line in content["warnings"]]
        return {"rows": rows, "warnings": warnings, "epoch": int(content["epoch"])}
    except (BadText, OSError, ValueError, LookupError, TypeError):
        return {}


def measure_epoch(folder: Path, settings: Mapping[str, Any]) -> float | None:
    """Steps in one pass over the clips, for one process; None where the run does not say."""
    batches = read_banner(folder).get("epoch")
    optimizer = settings.get("optimizer")
    accumulate = optimizer.get("accumulate", 1) if isinstance(optimizer, dict) else 1
    if not batches or not isinstance(accumulate, int) or accumulate < 1:
        return None
    return float(batches) / accumulate
