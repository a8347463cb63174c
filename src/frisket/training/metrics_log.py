"""What a run writes down about itself: metrics.jsonl always, trackers when asked."""

import errno
import json
import logging
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from io import FileIO
from pathlib import Path
from typing import Any

from accelerate.tracking import (
    GeneralTracker,
    TensorBoardTracker,
    TrackioTracker,
    WandBTracker,
)

from frisket.disk.atomic import replacing

log = logging.getLogger(__name__)

TRACKERS = ("tensorboard", "wandb", "trackio")


class MissingTracker(ImportError):
    """A tracker whose package is not installed; the message holds the pip line."""


class BadMetricsLog(ValueError):
    """A metrics file that cannot be continued; the message names file and line."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise MissingTracker, with the pip line, for one that is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise MissingTracker(f"no tracker is named {name!r}; there are: {', '.join(TRACKERS)}")
        if find_spec(name) is None:
            raise MissingTracker(
                f'run.trackers: {name!r} is not installed: pip install "frisket[{name}]"'
            )


def open_trackers(
    names: Sequence[str], *, project: str, folder: Path, settings: Mapping[str, Any]
) -> list[GeneralTracker]:
    """Start the trackers asked for (accelerate's), all or none; call it before anything costly.

    `settings` is the run's configuration, nested as it likes. Raises MissingTracker with the pip
    line before any tracker is started.
    """
    check_trackers(names)
    opened: list[GeneralTracker] = []
    for name in names:
        if name == "tensorboard":
            tracker: GeneralTracker = TensorBoardTracker("tensorboard", folder)
        elif name == "wandb":
            tracker = WandBTracker(project, dir=str(folder), name=folder.name)
        else:
            tracker = TrackioTracker(project, name=folder.name)
        tracker.start()
        tracker.store_init_configuration(
            {key: _plain(value) for key, value in _flat(settings, separator=".")}
        )
        opened.append(tracker)
    return opened


class MetricsLog:
    """Appends one JSON object a line to `path`, flushed line by line, and keeps running means.

    Every line has `step` and `seconds` (of wall time, going on over resumes). A number that is
    inf or NaN is written as null, and its dotted name listed under `nonfinite`.

    Nothing that goes wrong here ends a run: a tracker that raises is left out from then on, and
    lines that the disk does not take are kept and written when it takes them again; both said once.
    """

    def __init__(
        self,
        path: Path,
        *,
        step: int = 0,
        trackers: Sequence[GeneralTracker] = (),
        window: int = 50,
    ) -> None:
        """Open `path` to go on after `step`; what an interrupted run wrote beyond is cut off.

        With `step` 0 the run is new: an older file is kept as `metrics.1.jsonl` and so on.
        """
        self.path, self.trackers = path, list(trackers)
        self._waiting: list[str] = []  # lines the disk did not take
        self._recent: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=window))
        path.parent.mkdir(parents=True, exist_ok=True)
        before = 0.0
        if path.exists():
            before = self._cut(step) if step > 0 else self._set_aside()
        self._started = time.monotonic() - before
        # Unbuffered: what a full disk did not take must not be tried again at every later write.
        self._file: FileIO = path.open("ab", buffering=0)

    def __enter__(self) -> "MetricsLog":
        """The record itself; leaving closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file and the trackers."""
        self.close()

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one line; nested tables are fine (`{"inside": {"face": 0.1}}`).

        Trackers get the finite numbers, nested names joined by `/`.
        """
        bad: list[str] = []
        line: dict[str, Any] = {"step": step, "seconds": round(self.seconds, 3)}
        line |= {name: _clean(value, name, bad) for name, value in values.items()}
        if bad:
            line["nonfinite"] = bad
        self._waiting.append(json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n")
        self._flush()
        numbers = _numbers(values)
        for name, number in numbers.items():
            self._recent[name].append(number)
        for tracker in tuple(self.trackers):
            self._track(tracker, numbers, step)

    def _flush(self) -> None:
        held, text = len(self._waiting), "".join(self._waiting).encode()
        try:
            self._write(text)
        except OSError as error:
            if held == 1:
                log.warning(
                    "%s cannot be written (%s): training goes on, and its lines are kept until the"
                    " disk takes them",
                    self.path,
                    error.strerror or error,
                )
            return
        if held > 1:
            log.warning("%s: the %d lines that waited are written", self.path, held)
        self._waiting.clear()

    def _write(self, text: bytes) -> None:
        """All of it or none: a full disk may take half a line."""
        end = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(text) != len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            with suppress(OSError):
                self._file.truncate(end)
            raise

    def _track(self, tracker: GeneralTracker, numbers: Mapping[str, float], step: int) -> None:
        try:
            tracker.log(numbers, step=step)
        except Exception as error:  # anybody's code, and no reason to lose a run
            self.trackers.remove(tracker)
            log.warning(
                "the tracker %s failed at step %d (%s: %s) and is left out from here on;"
                " metrics.jsonl has everything",
                tracker.name,
                step,
                type(error).__name__,
                error,
            )

    def mean(self, name: str) -> float:
        """Mean of the last finite values of `name` (nested: `inside/face`); else NaN."""
        recent = self._recent.get(name)
        return sum(recent) / len(recent) if recent else math.nan

    @property
    def seconds(self) -> float:
        """Wall seconds the run has taken, resumes included."""
        return time.monotonic() - self._started

    def close(self) -> None:
        """Close the file and finish the trackers; says how many lines the disk never took."""
        if self._waiting:
            self._flush()
        if self._waiting:
            log.error("%s: its last %d lines are lost", self.path, len(self._waiting))
        self._file.close()
        for tracker in self.trackers:
            try:
                tracker.finish()
            except Exception as error:
                log.warning("the tracker %s did not finish: %s", tracker.name, error)

    def _set_aside(self) -> float:
        if self.path.stat().st_size:
            number = 1
            while (older := self.path.with_suffix(f".{number}{self.path.suffix}")).exists():
                number += 1
            self.path.replace(older)
            log.info("metrics of an earlier run are kept as %s", older)
        return 0.0

    def _cut(self, step: int) -> float:
        """Drop every line beyond `step`; returns the seconds of the last line kept."""
        lines = list(read(self.path))
        kept = [line for line in lines if line["step"] <= step]
        with replacing(self.path) as draft, draft.open("w", encoding="utf-8") as file:
            for line in kept:
                file.write(json.dumps(line, allow_nan=False, ensure_ascii=False) + "\n")
                for name, number in _numbers(line).items():
                    self._recent[name].append(number)
        return float(max((line["seconds"] for line in kept), default=0.0))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics file; a last line cut off by a crash is left out.

    Raises BadRecord for any other line that is not an object with `step` and `seconds`.
    """
    text = path.read_text(encoding="utf-8")
    *lines, unfinished = text.split("\n")
    if unfinished:
        log.warning("%s: the last line is incomplete and left out", path)
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            line["step"], line["seconds"]
        except (ValueError, TypeError, KeyError) as error:
            raise BadMetricsLog(
                f"{path}, line {number} is not a line of metrics ({error!r}); delete the line to"
                " go on"
            ) from error
        yield line


def _clean(value: Any, name: str, bad: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _clean(inner, f"{name}.{key}", bad) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner, f"{name}.{index}", bad) for index, inner in enumerate(value)]
    if value is None or isinstance(value, str | bool | int):
        return value
    number = float(value)  # numpy's and torch's scalars too
    if math.isfinite(number):
        return number
    bad.append(name)
    return None


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Finite numbers by flat name."""
    flat = ((name, value) for name, value in _flat(values) if not isinstance(value, str | bool))
    numbers = {name: float(value) for name, value in flat if _is_number(value)}
    return {name: number for name, number in numbers.items() if math.isfinite(number)}


def _is_number(value: Any) -> bool:
    return value is not None and hasattr(value, "__float__")


def _flat(values: Mapping[str, Any], separator: str = "/") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            for inner, leaf in _flat(value, separator):
                yield f"{name}{separator}{inner}", leaf
        else:
            yield name, value


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
