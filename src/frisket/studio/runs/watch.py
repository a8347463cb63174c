"""Tells the open pages when a run has gone on, begun or ended: `run` events."""

import logging
import threading
import time
from pathlib import Path
from typing import Any

from frisket.studio.runs.index import RunFolder, RunIndex, open_index
from frisket.studio.state import Studio

log = logging.getLogger(__name__)

PAUSE = 2.0  # seconds between two looks at the runs that are known
SEARCH = 20.0  # seconds between two searches for new folders
_WATCHES: dict[Path, "RunWatch"] = {}
_WATCHES_LOCK = threading.Lock()


class RunWatch(threading.Thread):
    """Follows the runs of one studio until its events are closed."""

    def __init__(self, studio: Studio, index: RunIndex) -> None:
        """A daemon: it holds nothing that the end of the server could spoil."""
        super().__init__(name="frisket-runs", daemon=True)
        self.studio, self.index = studio, index

    def run(self) -> None:
        """Look, tell what has changed, wait."""
        known_states: dict[str, dict[str, Any]] = {}
        searched = 0.0
        first = True
        while not self.studio.events.closed:
            now = time.monotonic()
            try:
                due = now - searched >= SEARCH
                runs = self.index.refresh() if due else self.index.look()
            except OSError as error:  # a disk that is gone for a moment
                log.warning("the runs below %s cannot be read (%s)", self.index.root, error)
                runs, due = [], False
            searched = now if due else searched
            states = {run.id: describe_state(run) for run in runs}
            if not first:
                self._publish(known_states, states)
            known_states, first = states, False
            time.sleep(PAUSE)

    def _publish(
        self, known_states: dict[str, dict[str, Any]], states: dict[str, dict[str, Any]]
    ) -> None:
        for run_id, state in states.items():
            if known_states.get(run_id) != state:
                self.studio.events.publish("run", state)
        for run_id in set(known_states) - set(states):
            self.studio.events.publish("run", {"id": run_id, "state": "gone"})


def describe_state(run: RunFolder) -> dict[str, Any]:
    """What of a run changes while it runs."""
    return {"id": run.id, "state": run.state, "steps": run.steps, "pages": sorted(run.pages)}


def watch_runs(studio: Studio) -> None:
    """Begin to follow the runs of a studio, unless that was begun."""
    with _WATCHES_LOCK:
        watch = _WATCHES.get(studio.root)
        if watch is None or not watch.is_alive() or watch.studio is not studio:
            watch = _WATCHES[studio.root] = RunWatch(studio, open_index(studio.workspace))
            watch.start()
