"""One stream of what happens, for every page that is open: server-sent events with a ring."""

import asyncio
import json
import secrets
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
    # Of this server: one that was started anew counts from 0 again, and its numbers mean others.
    _epoch: str = field(default_factory=lambda: secrets.token_hex(4))
    _closed: bool = False

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Tell every page: `kind` is job, clips, mask, run or notice."""
        with self._lock:
            self._number += 1
            body = json.dumps(data, separators=(",", ":"))
            event = Event(self._number, self._spell_frame(self._number, kind, body))
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

    def _list_missed(self, ring: list[Event], newest: int, last: str) -> list[str]:
        epoch, _, digits = last.partition("-")
        number = int(digits) if epoch == self._epoch and digits.isdecimal() else -1
        oldest = ring[0].number if ring else newest + 1
        if last and not oldest - 1 <= number <= newest:
            return [self._spell_frame(newest, "refetch", "{}")]
        if not last:
            return [self._spell_frame(newest, "hello", "{}")]
        later = [event.text for event in ring if event.number > number]
        return [self._spell_frame(number, "hello", "{}"), *later]

    def _spell_frame(self, number: int, kind: str, body: str) -> str:
        return f"id: {self._epoch}-{number}\nevent: {kind}\ndata: {body}\n\n"

    async def read(self, last: str) -> AsyncIterator[str]:
        """The frames after the event of the id `last` ("": from now on), then those to come.

        The first is `hello`, or `refetch` where some are gone or are another server's.
        """
        reader = _Reader(asyncio.get_running_loop(), asyncio.Queue(WAITING))
        with self._lock:
            ring, newest = list(self._ring), self._number
            self._readers.append(reader)
        try:
            if self._closed:
                return
            for text in self._list_missed(ring, newest, last):
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


def _call(loop: asyncio.AbstractEventLoop, *call: Any) -> None:
    try:
        loop.call_soon_threadsafe(*call)
    except RuntimeError:  # the loop has ended, and its page with it
        return


def _put(queue: asyncio.Queue[Event | None], event: Event) -> None:
    if queue.full():
        _send_end(queue)
    else:
        queue.put_nowait(event)


def _send_end(queue: asyncio.Queue[Event | None]) -> None:
    """End a stream where its page stands: what it has not read comes when it comes back."""
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)
