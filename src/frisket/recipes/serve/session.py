"""What one process of `frisket serve` keeps between requests, and what an operation is handed."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

BUDGET = 1 << 30  # bytes kept between requests


class Cancelled(Exception):
    """The one who asked does not want the answer any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: a JSON value, and bytes where it is an array or a picture."""

    value: dict[str, Any] = field(default_factory=dict)
    body: bytes = b""


@dataclass(slots=True)
class AnswerCache:
    """What may be needed again, the least recently used thrown out by bytes."""

    budget: int = BUDGET
    _items: "OrderedDict[Hashable, tuple[Any, int]]" = field(default_factory=OrderedDict)
    _bytes: int = 0

    def get(self, key: Hashable, make: Callable[[], tuple[Any, int]]) -> Any:
        """What is kept under `key`; else what `make` gives: a value and its size in bytes."""
        if key in self._items:
            self._items.move_to_end(key)
            return self._items[key][0]
        value, size = make()
        if size <= self.budget:
            self._items[key] = (value, size)
            self._bytes += size
            while self._bytes > self.budget:
                _, (_, freed) = self._items.popitem(last=False)
                self._bytes -= freed
        return value


@dataclass(slots=True)
class Session:
    """Of one process: its cache, and of the request at work its body, progress and end."""

    report: Callable[[str, int, int], None]
    cache: AnswerCache = field(default_factory=AnswerCache)
    body: bytes = b""
    stop: threading.Event = field(default_factory=threading.Event)

    def is_cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self.stop.is_set()

    def check(self) -> None:
        """Raise Cancelled where nobody waits any more."""
        if self.is_cancelled():
            raise Cancelled

    def report_progress(self, stage: str, count: int, total: int) -> None:
        """Say how far the request is; raises Cancelled where nobody waits."""
        self.check()
        self.report(stage, count, total)


Operation = Callable[[Session, dict[str, Any]], Answer]
