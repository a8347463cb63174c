"""One stream of what happens, for every page that is open: server-sent events with a ring."""

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

RING = 2048  # events kept for a page that comes back
WAITING = 512  # events a slow page may be behind before it must ask for everything anew
KEEPALIVE = 15.0  # seconds


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `text` is its frame on the wire."""

    number: int
    text: str


@dataclass(slots=True)
class _Reader:
    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[Event | None]


@dataclass(slots=True)
class EventStream:
    """Publish from any thread; read from the server's loop.

    `listeners` are called in the publishing thread, and must be quick.
    """

    listeners: list[Callable[[str, dict[str, Any]], None]] = field(default_factory=list)
    _ring: deque[Event] = field(default_factory=lambda: deque(maxlen=RING))
    _readers: list[_Reader] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _number: int = 0
    _closed: bool = False

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Tell every page: `kind` is job, clips, mask, run or notice."""
        with self._lock:
            self._number += 1
            body = json.dumps(data, separators=(",", ":"))
            event = Event(self._number, f"id: {self._number}\nevent: {kind}\ndata: {body}\n\n")
            self._ring.append(event)
            readers = list(self._readers)
        for reader in readers:
            _call(reader.loop, _put, reader.queue, event)
        for listen in list(self.listeners):
            listen(kind, data)

    @property
    def closed(self) -> bool:
        """Whether the server stops: nobody hears any more."""
        return self._closed

    def close(self) -> None:
        """End every stream: the server stops."""
        with self._lock:
            self._closed = True
            readers = list(self._readers)
        for reader in readers:
            _call(reader.loop, _send_end, reader.queue)

    async def read(self, last: int | None) -> AsyncIterator[str]:
        """The frames after event `last`, then those to come; `refetch` where some are gone."""
        reader = _Reader(asyncio.get_running_loop(), asyncio.Queue(WAITING))
        with self._lock:
            ring, newest = list(self._ring), self._number
            self._readers.append(reader)
        try:
            if self._closed:
                return
            for text in _catch_up(ring, newest, last):
                yield text
            while True:
                try:
                    next_event = await asyncio.wait_for(reader.queue.get(), KEEPALIVE)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if next_event is None:
                    return
                yield next_event.text
        finally:
            with self._lock:
                self._readers.remove(reader)


def _catch_up(ring: list[Event], newest: int, last: int | None) -> list[str]:
    """The first frames of a reader whose last event was `last`; None: it has none yet."""
    oldest = ring[0].number if ring else newest + 1
    has_gap = last is not None and (last > newest or last + 1 < oldest)
    first = f"id: {newest}\nevent: {'refetch' if has_gap else 'hello'}\ndata: {{}}\n\n"
    if last is None or has_gap:
        return [first]
    return [first, *(event.text for event in ring if event.number > last)]


def _call(loop: asyncio.AbstractEventLoop, *call: Any) -> None:
    try:
        loop.call_soon_threadsafe(*call)
    except RuntimeError:  # the loop has ended, and its page with it
        return


def _put(queue: asyncio.Queue[Event | None], event: Event) -> None:
    if queue.full():  # the page is asked to come back: its last id is too old by then, or it is not
        _send_end(queue)
    else:
        queue.put_nowait(event)


def _send_end(queue: asyncio.Queue[Event | None]) -> None:
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(None)
