"""Which entries are there, whole and finite: by a stat instead of a read wherever that is safe."""

import logging
from collections.abc import Mapping

from torch import Tensor

from frisket.data.cached.finite import count_strange
from frisket.data.cached.index import Index
from frisket.data.cached.store import Cache, CorruptEntry, EntryKind

log = logging.getLogger(__name__)


class Entries:
    """A cache, and what its index knows of its entries."""

    def __init__(self, cache: Cache, index: Index) -> None:
        """Both of one folder."""
        self.cache, self.index = cache, index

    def ready(self, kind: EntryKind, key: str) -> bool:
        """Whether an entry is there, whole and finite; one that changed since it was seen is read.

        A corrupt one, or one that holds NaN or infinity (as versions before this check wrote them),
        is deleted, with a warning in the log, so that it is made again.
        """
        mark = self.cache.mark(kind, key)
        if mark is None:
            self.cache.need_writable(kind, key)  # before any model is loaded
            return False
        if self.index.get("entry", _name_slot(kind, key)) == mark:
            return True
        try:
            strange = count_strange(self.cache.load(kind, key).tensors)
        except CorruptEntry as error:
            log.warning("%s; making it again", error)
            self.cache.drop(kind, key)
            return False
        if strange:
            path = self.cache.path(kind, key)
            log.warning("cache entry %s holds NaN or infinity; making it again", path)
            self.cache.drop(kind, key)
            return False
        self.index.put("entry", _name_slot(kind, key), mark)
        return True

    def store(
        self,
        kind: EntryKind,
        key: str,
        tensors: Mapping[str, Tensor],
        notes: Mapping[str, str] | None = None,
    ) -> None:
        """Write an entry, and remember that it is whole."""
        self.cache.store(kind, key, tensors, notes)
        self.index.put("entry", _name_slot(kind, key), self.cache.mark(kind, key))


def _name_slot(kind: EntryKind, key: str) -> str:
    # "finite": what the index knew before is only that an entry was whole; it is read once more.
    return f"finite/{kind}/{key}"
