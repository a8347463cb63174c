"""`index.html` of a run: how far it is, its error inside and outside, its previews; kept anew."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from frisket.evaluation.page import render, write_whole
from frisket.progress import spell_time
from frisket.training.metrics_log import BadMetricsLog, read

log = logging.getLogger(__name__)

PAUSE = 10.0  # seconds between two versions of the page
WINDOW = 25  # steps of a running mean
POINTS = 300  # of a curve
SHOWN = 12  # previews, the newest
WIDE, TALL = 600, 160  # of the drawing
KINDS = ("inside", "outside")


@dataclass(slots=True)
class RunPage:
    """The page of one run, to be told of every step and preview.

    A browser may keep it open: it asks for itself again until the run has ended. What cannot be
    written costs no training and is said once.
    """

    folder: Path
    steps: int
    rows: Sequence[tuple[str, str]]  # what the run teaches, as the banner says it
    clock: Callable[[], float] = time.monotonic
    history: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    previews: list[Path] = field(default_factory=list)
    _began: tuple[float, int] | None = None  # when, and at which step
    _written: float = -math.inf
    _failed: bool = False

    def recall(self, metrics: Path, done: int) -> None:
        """Take up the steps and previews of a run that is gone on with."""
        if done and metrics.is_file():
            try:
                for line in read(metrics):
                    if line["step"] <= done:
                        self._take(int(line["step"]), line)
            except (BadMetricsLog, OSError, ValueError):
                self.history.clear()
        self.previews = sorted((self.folder / "previews").glob("step-*.*"))

    def step(self, step: int, values: Mapping[str, Any]) -> None:
        """Hear of a step; the page is written again when it is due."""
        now = self.clock()
        self._began = self._began or (now, step)
        self._take(step, values)
        if now - self._written >= PAUSE:
            self.write()

    def preview(self, path: Path) -> None:
        """Hear of a preview."""
        self.previews = [*(earlier for earlier in self.previews if earlier != path), path]
        self.write()

    def write(self, *, done: bool = False) -> None:
        """Write the page as things are; `done` stops it asking for itself."""
        self._written = self.clock()
        try:
            write_whole(self.folder / "index.html", self._page(done=done))
        except OSError as error:
            if not self._failed:
                log.warning("the page of the run could not be written (%s)", error)
            self._failed = True

    def close(self, outcome: Mapping[str, str]) -> None:
        """Hear, at the end, what came of what the run teaches: rows that join the others."""
        self.rows = [*self.rows, *((name, text) for name, text in outcome.items() if text)]
        self.write(done=True)

    def _take(self, step: int, values: Mapping[str, Any]) -> None:
        errors = {kind: values[kind] for kind in KINDS if isinstance(values.get(kind), float)}
        if errors:
            self.history.append((step, errors))

    def _page(self, *, done: bool) -> str:
        means = {kind: self._means(kind) for kind in KINDS}
        top = max((value for line in means.values() for _, value in line), default=0.0)
        last = {kind: line[-1][1] if line else None for kind, line in means.items()}
        step = self.history[-1][0] if self.history else 0
        shown = [
            {"name": path.stem, "file": quote(path.relative_to(self.folder).as_posix())}
            for path in reversed(self.previews[-SHOWN:])
        ]
        return render(
            "run.html.j2",
            **{"name": self.folder.name, "step": step, "steps": self.steps, "done": done},
            **{"left": self._estimate_left(step), "last": last, "window": WINDOW, "top": top},
            first=self.history[0][0] if self.history else 0,
            curves={k: self._points(line, top) for k, line in means.items() if len(line) > 1},
            previews=shown,
            rows=self.rows,
        )

    def _estimate_left(self, step: int) -> str:
        if self._began is None or step <= self._began[1]:
            return ""
        seconds = (self.clock() - self._began[0]) / (step - self._began[1])
        return spell_time(seconds * (self.steps - step))

    def _means(self, kind: str) -> list[tuple[int, float]]:
        """Running means of one kind, thinned to POINTS."""
        line = [(step, values[kind]) for step, values in self.history if kind in values]
        every = max(1, len(line) // POINTS)
        places = [*range(0, len(line), every)]
        if line and places[-1] != len(line) - 1:
            places.append(len(line) - 1)
        points = []
        for place in places:
            near = [value for _, value in line[max(0, place - WINDOW + 1) : place + 1]]
            points.append((line[place][0], sum(near) / len(near)))
        return points

    def _points(self, line: Sequence[tuple[int, float]], top: float) -> str:
        first, last = line[0][0], line[-1][0]
        across = WIDE / max(last - first, 1)
        up = TALL / max(top, 1e-12)
        return " ".join(f"{(s - first) * across:.1f},{TALL - v * up:.1f}" for s, v in line)
