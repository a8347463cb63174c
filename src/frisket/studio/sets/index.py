"""The data sets of a studio in memory: listed at once, measured in the background, told as events.

Only stills are opened here, a few at a time; videos are measured by `frisket serve`.
"""

import asyncio
import hashlib
import json
import logging
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

from fastapi import Depends, Request

from frisket.disk.atomic import replacing
from frisket.media.paths import IMAGES
from frisket.studio.sets.facts import (
    Measure,
    RowFacts,
    measure_by_record,
    read_facts,
    stamp_of,
)
from frisket.studio.sets.listing import ClipRow, SetListing, list_set
from frisket.studio.sets.pictures import PictureCache
from frisket.studio.sets.plan import SetPlan, list_regions, plan_of
from frisket.studio.state import Studio, get_studio
from frisket.studio.workspace import UnknownId, WorkspaceClip

log = logging.getLogger(__name__)

FRESH = 2.0  # seconds for which a listing is believed without looking again
TELL = 0.3  # seconds between two events of one set
BATCH = 8  # videos handed to `frisket serve` at a time
YIELD = 16  # clips after which other threads have their turn
SAVE = 20.0  # seconds between two times that measures are kept on disk


@dataclass(slots=True)
class SetIndex:
    """One data set: rows in the trainer's order, facts by clip, and the number of each change."""

    plan: SetPlan
    listing: SetListing = field(default_factory=SetListing)
    rows: dict[str, ClipRow] = field(default_factory=dict)  # by id, in order
    facts: dict[str, RowFacts] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)  # clip id to number of its last change
    number: int = 0
    listed: float = 0.0
    arrived: set[str] = field(default_factory=set)  # clips taken in since it was listed

    @property
    def measured(self) -> int:
        """How many clips were opened."""
        # A list first: the thread that measures adds to the dictionary meanwhile.
        return sum(facts.measure is not None for facts in list(self.facts.values()))

    def note(self, facts: RowFacts) -> None:
        """Take new facts of a clip."""
        self.number += 1
        self.facts[facts.id] = facts
        self.changes[facts.id] = self.number

    def touch(self, clip_ids: Iterable[str]) -> None:
        """Have the facts of some clips told again: something beside them changed."""
        for clip_id in clip_ids:
            if clip_id in self.facts:
                self.note(self.facts[clip_id])


class SetIndexes:
    """All data sets that were asked for, and the thread that measures them."""

    def __init__(self, studio: Studio) -> None:
        """Start nothing: the thread begins with the first set."""
        self.studio = studio
        self.pictures = PictureCache(studio.cache / "pictures")
        self.loop: asyncio.AbstractEventLoop | None = None
        self._sets: dict[str, SetIndex] = {}
        self._lock = threading.RLock()
        self._pending: dict[str, None] = {}  # sets to be measured, the newest asked first
        self._wake = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._measures: dict[str, Measure] | None = None
        self._saved = time.monotonic()

    def open(self, set_id: str, *, anew: bool = False, stale: bool = False) -> SetIndex:
        """A set as its folder is now, looked at again after FRESH seconds.

        `anew` looks at once, `stale` takes it as it was last listed.
        """
        with self._lock:
            index = self._sets.get(set_id)
            fresh = index is not None and time.monotonic() - index.listed < FRESH
            if index is not None and not anew and (stale or fresh):
                return index
            plan = plan_of(self.studio.workspace.get_set(set_id))
            index = index or self._sets.setdefault(set_id, SetIndex(plan))
            index.plan = plan
            self._list(index)
            self._ask(set_id)
            return index

    def find(self, clip_id: str) -> tuple[SetIndex, ClipRow]:
        """A clip's set and row; UnknownId where there is none."""
        with self._lock:
            for index in self._sets.values():
                if clip_id in index.rows:
                    return index, index.rows[clip_id]
            clip = self.studio.workspace.get_clip(clip_id)
            index = self.open(clip.set_id, anew=True)
            if clip_id not in index.rows:
                raise UnknownId(f"no clip has the id {clip_id!r}")
            return index, index.rows[clip_id]

    def choose(self, set_id: str, clip_ids: Iterable[str] | None) -> tuple[SetIndex, list[ClipRow]]:
        """Rows of a set by id, in its order, all for None; UnknownId names the first stranger."""
        index = self.open(set_id)
        if clip_ids is None:
            return index, list(index.rows.values())
        wanted_ids = set(clip_ids)
        for clip_id in wanted_ids:
            if clip_id not in index.rows:
                raise UnknownId(f"this data set has no clip with the id {clip_id!r}")
        return index, [row for row in index.rows.values() if row.id in wanted_ids]

    def refresh(self, set_id: str) -> SetIndex:
        """Look at a set again after files of it were changed here, and tell the pages."""
        index = self.open(set_id, anew=True)
        self._tell(index, listed=True)
        return index

    def note_event(self, kind: str, data: dict[str, Any]) -> None:
        """Look again at what was changed here: masks of a job that ended, a mask that was saved."""
        if kind == "job":
            if data.get("kind") == "masks" and data.get("ended"):
                self._refresh_apart(str((data.get("about") or {}).get("set")))
        elif kind in ("mask", "clips") and "clip" in data:
            self._note_saved(str(data["clip"]))

    def _note_saved(self, clip_id: str) -> None:
        with self._lock:
            sets = list(self._sets.items())
        for set_id, index in sets:
            row = index.rows.get(clip_id)
            if row is None:
                continue
            if row.masks:
                self._ask(set_id)
            else:  # its first mask: only a list made anew knows the file
                self._refresh_apart(set_id)

    def _refresh_apart(self, set_id: str) -> None:
        if set_id in self._sets:
            threading.Thread(target=self._refresh_quietly, args=(set_id,), daemon=True).start()

    def _refresh_quietly(self, set_id: str) -> None:
        try:
            self.refresh(set_id)
        except Exception as error:  # of a thread of nobody's: whoever asks next is told again
            log.warning("studio: a data set could not be looked at again: %s", error)

    def list_arrivals(self, set_id: str) -> set[str]:
        """Names of clips that came since the set was listed."""
        with self._lock:
            index = self._sets.get(set_id)
            return set() if index is None else set(index.arrived)

    def note_arrival(self, set_id: str, name: str) -> None:
        """Know a clip that was taken in, until the set is listed anew."""
        with self._lock:
            if set_id in self._sets:
                self._sets[set_id].arrived.add(name)

    def warm(self, set_id: str) -> None:
        """Begin to list a set that will be asked for in a moment."""
        with self._lock:
            if set_id in self._sets:
                return
        threading.Thread(target=self._open_quietly, args=(set_id,), daemon=True).start()

    def _open_quietly(self, set_id: str) -> None:
        with suppress(Exception):  # whoever asks is told
            self.open(set_id)

    def close(self) -> None:
        """Keep what was measured."""
        self._save(force=True)

    def _list(self, index: SetIndex) -> None:
        index.listing = list_set(index.plan)
        rows = {row.id: row for row in index.listing.rows}
        for lost_id in index.rows.keys() - rows.keys():
            index.facts.pop(lost_id, None)
            index.changes.pop(lost_id, None)
        index.rows = rows
        set_id = index.plan.clip_set.id
        self.studio.workspace.remember(
            WorkspaceClip(row.id, set_id, row.name, row.path, row.video) for row in rows.values()
        )
        index.listed = time.monotonic()
        index.arrived.clear()

    def _ask(self, set_id: str) -> None:
        with self._wake:
            self._pending[set_id] = None
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run_thread, daemon=True, name="measure"
                )
                self._thread.start()
            self._wake.notify()

    def _run_thread(self) -> None:
        while True:
            with self._wake:
                while not self._pending:
                    self._wake.wait()
                set_id = next(reversed(self._pending))
                del self._pending[set_id]
                index = self._sets[set_id]
            try:
                self._read_all(index)
                self._measure_all(index)
            except Exception:
                log.exception("%s: measuring stopped", index.plan.clip_set.name)
            self._tell(index)
            self._save(force=not self._pending)

    def _read_all(self, index: SetIndex) -> None:
        """Captions and records: quick, so that filters by them are whole within a second."""
        tell_time = time.monotonic()
        for number, row in enumerate(list(index.rows.values())):
            if number % YIELD == YIELD - 1:
                time.sleep(0.002)  # whoever waits for pictures goes first
            stamp = stamp_of(row)
            facts_before = index.facts.get(row.id)
            if facts_before is not None and facts_before.stamp == stamp:
                continue
            facts = read_facts(index.plan, row, stamp)
            measure = self._recall(index, row, stamp) or measure_by_record(row)
            with self._lock:
                index.note(replace(facts, measure=measure))
            if time.monotonic() - tell_time > TELL:
                tell_time = time.monotonic()
                self._tell(index)
        self._tell(index)

    def _measure_all(self, index: SetIndex) -> None:
        """What must be opened: stills here, everything else by `frisket serve`."""
        tell_time = time.monotonic()
        moving: list[ClipRow] = []
        for row in list(index.rows.values()):
            facts = index.facts.get(row.id)
            if facts is None or facts.measure is not None or row.id not in index.rows:
                continue
            if _is_moving(row):
                moving.append(row)
                if len(moving) == BATCH:
                    self._measure_moving(index, moving)
                    moving = []
            else:
                self._keep_measure(index, row, _measure_still(index.plan, row))
            if time.monotonic() - tell_time > TELL:
                tell_time = time.monotonic()
                self._tell(index)
                self._save()
                with self._lock:
                    if index.plan.clip_set.id in self._pending:  # listed anew meanwhile
                        return
        if moving:
            self._measure_moving(index, moving)

    def _measure_moving(self, index: SetIndex, rows: list[ClipRow]) -> None:
        if self.loop is None:
            return
        call = self.studio.serve.call(
            "clips.measure", {"clips": [describe_for_serve(index.plan, row) for row in rows]}
        )
        try:
            reply = asyncio.run_coroutine_threadsafe(call, self.loop).result()
        except (ValueError, RuntimeError) as error:
            for row in rows:
                self._keep_measure(index, row, Measure(fault=f"{row.path}: {error}"), lasting=False)
            return
        for row, measure in zip(rows, reply.value["measures"], strict=True):
            self._keep_measure(index, row, Measure(**measure))

    def _keep_measure(
        self, index: SetIndex, row: ClipRow, measure: Measure, *, lasting: bool = True
    ) -> None:
        with self._lock:
            facts = index.facts.get(row.id)
            if facts is None:
                return
            index.note(replace(facts, measure=measure))
            if lasting:
                key = _make_measure_key(index.plan, facts.stamp)
                self._load_measures()[key] = measure

    def _recall(self, index: SetIndex, row: ClipRow, stamp: str) -> Measure | None:
        return self._load_measures().get(_make_measure_key(index.plan, stamp))

    def _load_measures(self) -> dict[str, Measure]:
        """Measures of earlier hours by key; what cannot be read is measured again."""
        if self._measures is None:
            self._measures = {}
            with suppress(OSError, ValueError, TypeError):
                stored = json.loads((self.studio.cache / "measures.json").read_text("utf-8"))
                self._measures = {key: Measure(**value) for key, value in stored.items()}
        return self._measures

    def _save(self, *, force: bool = False) -> None:
        if not force and time.monotonic() - self._saved < SAVE:
            return
        with self._lock:
            stored = {key: asdict(measure) for key, measure in self._load_measures().items()}
            self._saved = time.monotonic()
        with suppress(OSError), replacing(self.studio.cache / "measures.json") as draft:
            draft.write_text(json.dumps(stored), encoding="utf-8")

    def _tell(self, index: SetIndex, *, listed: bool = False) -> None:
        """One event: how far measuring is, and whether the list itself is another."""
        self.studio.events.publish(
            "clips",
            {
                "set": index.plan.clip_set.id,
                "number": index.number,
                "measured": index.measured,
                "total": len(index.rows),
                "listed": listed,
            },
        )


def describe_for_serve(plan: SetPlan, row: ClipRow) -> dict[str, Any]:
    """What `frisket serve` is told of a clip: paths and how its mask is read."""
    return {
        "clip": str(row.path),
        "masks": {region: str(path) for region, path in row.masks.items()},
        "alpha": plan.source == "alpha",
        "levels": dict(plan.levels),
        "legend": {n: v if isinstance(v, int) else list(v) for n, v in plan.legend.items()},
        "invert": plan.invert,
        "weights": dict(plan.weights),
        "numbers": {region.name: region.id for region in list_regions(plan)},
    }


def _is_moving(row: ClipRow) -> bool:
    files = (row.path, *row.masks.values())
    return row.video or any(path.suffix.lower() not in IMAGES for path in files)


def _measure_still(plan: SetPlan, row: ClipRow) -> Measure:
    # NumPy, OpenCV and Pillow are imported when the first picture is opened, not at the start.
    from frisket.studio.sets.pixels import measure_still  # noqa: PLC0415

    return measure_still(plan, row)


def _make_measure_key(plan: SetPlan, stamp: str) -> str:
    how: Mapping[str, Any] = {"levels": dict(plan.levels), "legend": dict(plan.legend)}
    return hashlib.sha256(f"{plan.source}{plan.invert}{how}{stamp}".encode()).hexdigest()[:32]


async def get_indexes(request: Request) -> SetIndexes:
    """The data sets of the studio that a request is about; async, for it remembers the loop."""
    studio = get_studio(request)
    indexes: SetIndexes | None = getattr(request.app.state, "sets", None)
    if indexes is None:
        indexes = request.app.state.sets = SetIndexes(studio)
        studio.events.listeners.append(indexes.note_event)
    indexes.loop = asyncio.get_running_loop()
    return indexes


OpenIndexes = Annotated[SetIndexes, Depends(get_indexes)]  # as a route asks for them
