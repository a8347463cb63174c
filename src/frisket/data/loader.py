"""Hands the trainer its batches: any batch of a run can be asked for, in any order."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import count

from torch import Tensor

from frisket.data.cached.store import Cache, CacheEntry, CorruptEntry, EntryKind
from frisket.data.captions import pick_subset
from frisket.data.composites.reading import CachedPicture, PictureReader
from frisket.data.faces.reading import draw_marks, spread_marks, unpack_marks
from frisket.data.records import Item, Prepared
from frisket.data.rng import draw
from frisket.data.sample import Batch, Sample, collate
from frisket.data.schedule import Schedule
from frisket.losses.faces import MarkRow

log = logging.getLogger(__name__)

MEGABYTE = 1 << 20


class Store:
    """Verified entries of a cache, the latest used kept in memory up to a limit. Thread-safe."""

    def __init__(self, cache: Cache, megabytes: int) -> None:
        """`megabytes`: the limit; an entry larger than it is read every time."""
        self.cache, self.limit = cache, megabytes * MEGABYTE
        self._held: OrderedDict[tuple[EntryKind, str], CacheEntry] = OrderedDict()
        self.bytes = 0
        self._lock = threading.Lock()

    def load(self, kind: EntryKind, key: str) -> CacheEntry:
        """An entry; its tensors are shared and must not be written to."""
        slot = (kind, key)
        with self._lock:
            if slot in self._held:
                self._held.move_to_end(slot)
                return self._held[slot]
        entry = self.cache.load(kind, key)
        with self._lock:
            if slot not in self._held and entry.size <= self.limit:
                self._held[slot] = entry
                self.bytes += entry.size
            while self.bytes > self.limit:
                self.bytes -= self._held.popitem(last=False)[1].size
        return entry


class Loader:
    """Batches as a function of (seed, number): resuming at any of them needs no replay.

    The processes of a run deal the one row of batches out between them: from row r on, process
    `rank` of `world` gets the rows r + rank, r + rank + world, ..., so that no two see the same
    draw, and a run that goes on with another number of processes neither skips nor repeats one.
    Caption dropout, tag order, mix, background swap, the variant of a mask, the regions of a
    subset and the frames whose faces are looked at are drawn for each place of each batch; what is
    not mixed may be swapped, and what is neither shows a subset. A mix shows no face that is known:
    its subjects stand elsewhere.

    An entry that is missing or corrupt is made again by `prepared.rebuild`, on the caller's thread
    (it may load a model); where there is none, or it does not help, CorruptEntry names the file.
    """

    def __init__(
        self,
        prepared: Prepared,
        *,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        megabytes: int = 512,
        prefetch: int = 2,
    ) -> None:
        """`megabytes` bounds the entries kept in memory; `prefetch` batches are read ahead.

        ValueError where there is no clip, `batch` is below 1, or `rank` is not one of `world`.
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes: use 0 to {world - 1}")
        self.prepared, self.seed, self.rank, self.world = prepared, seed, rank, world
        self.schedule = Schedule(prepared.items, batch=batch, seed=seed)
        self.prefetch = prefetch
        self.pictures = PictureReader(self._load, prepared.regions)
        self.store = Store(prepared.cache, megabytes)
        self._reader = ThreadPoolExecutor(1, "frisket-loader") if prefetch > 0 else None
        self._ahead: dict[int, Future[Batch | None]] = {}

    def at(self, row: int) -> Batch:
        """Batch `row` of the row, from 0; the same whenever and by whomever it is asked for."""
        batch = self._ahead.pop(row).result() if row in self._ahead else None
        self._read_ahead(row)
        if batch is not None:
            return batch
        places = enumerate(self.schedule.batch(row))
        return collate([self._mend(self._draw_item, item, row, place) for place, item in places])

    def stream(self, start: int = 0) -> Iterator[Batch]:
        """This process's batches from row `start` on, without end; leaving it stops the reader."""
        try:
            for row in count(start + self.rank, self.world):
                yield self.at(row)
        finally:
            self.close()

    def collate_held(self) -> tuple[Batch, ...]:
        """The held-out clips, one a batch, as they are: no dropout, no swap, no shuffled tags."""
        samples = (self._mend(self._plain, item) for item in self.prepared.held)
        # Counted from behind: names may repeat, and those of 0 and above are trained on.
        return tuple(
            collate([replace(sample, item=-1 - place)]) for place, sample in enumerate(samples)
        )

    def close(self) -> None:
        """Stop reading ahead, once what is being read is read; batches can still be asked for."""
        if self._reader is not None:
            self._reader.shutdown(cancel_futures=True)
            self._reader = None
            self._ahead.clear()

    def _read_ahead(self, row: int) -> None:
        if self._reader is None:
            return
        wanted = range(row + self.world, row + self.world * (self.prefetch + 1), self.world)
        for stale in [n for n in self._ahead if n not in wanted]:
            self._ahead.pop(stale).cancel()
        for n in wanted:
            if n not in self._ahead:
                self._ahead[n] = self._reader.submit(self._whole, n)

    def _whole(self, row: int) -> Batch | None:
        """A batch, or None if an entry of it is broken: mending is the caller's thread's."""
        try:
            places = enumerate(self.schedule.batch(row))
            return collate([self._draw_item(item, row, place) for place, item in places])
        except CorruptEntry:
            return None

    def _mend(self, make: Callable[..., Sample], *question: object) -> Sample:
        """A sample, its broken entries made again one after the other."""
        broken: set[tuple[str, str]] = set()
        while True:
            try:
                return make(*question)
            except BrokenEntry as error:
                if self.prepared.rebuild is None or (error.kind, error.key) in broken:
                    raise
                log.warning("%s; making it again", error)
                broken.add((error.kind, error.key))
                self.prepared.cache.drop(error.kind, error.key)
                self.prepared.rebuild()

    def _load(self, kind: EntryKind, key: str) -> CacheEntry:
        try:
            return self.store.load(kind, key)
        except CorruptEntry as error:
            raise BrokenEntry(kind, key, str(error)) from error

    def _draw_item(self, index: int, row: int, place: int) -> Sample:
        return replace(self._draw(self.prepared.items[index], row, place), item=index)

    def _draw(self, item: Item, row: int, place: int) -> Sample:
        def chance(what: str) -> float:
            return draw(self.seed, what, row, place)

        coverage = item.coverage
        if item.drawn:
            coverage = item.drawn[int(chance("mask") * len(item.drawn))]
        if item.mixes and chance("mix") < self.prepared.mix_rate:
            mix = item.mixes[int(chance("subjects") * len(item.mixes))]
            return self._sample(item, self.pictures.read_mix(mix), _drop(item, mix.text, chance))
        marks = draw_marks(self._read_marks(item), self.prepared.face_frames, chance)
        if item.swaps and chance("swap") < self.prepared.swap_rate:
            swap = item.swaps[int(chance("background") * len(item.swaps))]
            picture, text = self.pictures.read_swap(item, swap, coverage), swap.text
            text = _drop(item, text, chance)
            return self._sample(item, picture, text, swapped=True, faces=marks)
        picture = self.pictures.read_clip(item.latents, coverage)
        if not item.subsets:
            text = item.texts[int(chance("tags") * len(item.texts))]
            return self._sample(item, picture, _drop(item, text, chance), faces=marks)
        sizes = [len(subset.kept) for subset in item.subsets]
        subset = item.subsets[pick_subset(sizes, chance("subset"))]
        sample = self._sample(item, picture, _drop(item, subset.text, chance), faces=marks)
        if not subset.left:
            return sample
        region_flags = tuple(name not in subset.left for name in self.prepared.regions)
        return replace(sample, region_flags=region_flags)

    def _plain(self, item: Item) -> Sample:
        picture = self.pictures.read_clip(item.latents, item.coverage)
        marks = spread_marks(self._read_marks(item), self.prepared.face_frames)
        return self._sample(item, picture, item.texts[0], faces=marks)

    def _read_marks(self, item: Item) -> MarkRow:
        return () if item.faces is None else unpack_marks(self._load("faces", item.faces).tensors)

    def _choose_pixels(self, item: Item) -> str | None:
        """The key of the control's pixels, where a batch holds them."""
        holds = self.prepared.control_pixels or item.control_latents is None
        return item.control if holds else None

    def _read_control(self, key: str | None, name: str) -> Tensor | None:
        return None if key is None else self._load("control", key).tensors[name]

    def _sample(
        self,
        item: Item,
        picture: CachedPicture,
        text: str,
        *,
        swapped: bool = False,
        faces: MarkRow = (),
    ) -> Sample:
        regions = self.prepared.regions
        planes = picture.planes
        if planes is None:
            planes = picture.latents.new_zeros((len(regions), *item.shape)).float()
        return Sample(
            latents=picture.latents,
            conditioning={**self._load("text", text).tensors, **picture.conditioning},
            coverage=planes,
            masked=picture.planes is not None and item.weighs,
            weight=item.weight,
            name=item.name,
            swapped=swapped,
            prior_coverage=picture.prior_planes,
            phrases=self.prepared.phrases.get(text, ()),
            faces=faces,
            control=self._read_control(self._choose_pixels(item), "pixels"),
            control_latents=self._read_control(item.control_latents, "latents"),
            frames=max(len(item.picks), 1),
        )


class BrokenEntry(CorruptEntry):
    """A corrupt entry, with the kind and key that it was looked up by."""

    def __init__(self, kind: EntryKind, key: str, why: str) -> None:
        """Keep what is needed to make it again."""
        super().__init__(why)
        self.kind, self.key = kind, key


def _drop(item: Item, text: str, chance: Callable[[str], float]) -> str:
    """The key of the caption, or by chance of the empty one."""
    drops = item.empty is not None and chance("dropout") < item.dropout
    return item.empty if drops and item.empty is not None else text
