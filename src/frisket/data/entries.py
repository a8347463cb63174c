"""Which entries are there and whole, told by a stat instead of a read wherever that is safe."""

import logging
from collections.abc import Mapping

from torch import Tensor

from frisket.data.cache import Cache, CorruptEntry, Kind
from frisket.data.index import Index

log = logging.getLogger(__name__)


class Entries:
    """A cache, and what its index knows of its entries."""

    def __init__(self, cache: Cache, index: Index) -> None:
        """Both of one folder."""
        self.cache, self.index = cache, index

    def ready(self, kind: Kind, key: str) -> bool:
        """Whether an entry is there and whole; one that changed since it was verified is read.

        A corrupt one is deleted, with a warning in the log, so that it is made again.
        """
        mark = self.cache.mark(kind, key)
        if mark is None:
            self.cache.need_writable(kind, key)  # before any model is loaded
            return False
        slot = f"{kind}/{key}"
        if self.index.get("entry", slot) == mark:
            return True
        try:
            self.cache.load(kind, key)
        except CorruptEntry as error:
            log.warning("%s; making it again", error)
            self.cache.drop(kind, key)
            return False
        self.index.put("entry", slot, mark)
        return True

    def store(
        self,
        kind: Kind,
        key: str,
        tensors: Mapping[str, Tensor],
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """Write an entry, and remember that it is whole."""
        self.cache.store(kind, key, tensors, notes)
        self.index.put("entry", f"{kind}/{key}", self.cache.mark(kind, key))
