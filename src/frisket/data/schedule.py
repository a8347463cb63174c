"""Which clips make up which batch: a function of the seed and the batch's number, nothing else."""

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

from frisket.data.records import Item
from frisket.data.rng import order

_Repeat = tuple[int, int]  # item, and which of its repeats


class Schedule:
    """The endless row of batches of a run; each holds items of one bucket.

    An epoch sees every item `repeats` times, in an order drawn from (seed, epoch). Each bucket is
    cut into batches of `batch`, the last one smaller; a bucket with fewer items than `batch` is
    gone round again until it fills one, so that a small set still gives whole batches.
    """

    def __init__(self, items: Sequence[Item], *, batch: int, seed: int) -> None:
        """ValueError where there is no item or `batch` is below 1."""
        if not items:
            raise ValueError("no clips to train on: the data sets are empty")
        if batch < 1:
            raise ValueError(f"batch is {batch}; use 1 or more")
        self.size, self.seed = batch, seed
        buckets: defaultdict[tuple[tuple[int, ...], ...], list[_Repeat]] = defaultdict(list)
        for index, item in enumerate(items):
            buckets[item.bucket] += [(index, turn) for turn in range(item.repeats)]
        self.buckets = [buckets[shape] for shape in sorted(buckets)]
        self.length = sum(-(-len(bucket) // batch) for bucket in self.buckets)
        # Two epochs: neighbours ask for the end of one and the start of the next.
        self._epoch = lru_cache(maxsize=2)(self._draw)

    def factors(self, accumulate: int = 1) -> dict[int, float]:
        """How much harder an item pulls than one of a full bucket, of those that pull harder.

        An optimizer step is a mean over its clips. The items of a bucket smaller than `batch` are
        repeated to fill one; those of its smaller last batch share a step among fewer, unless
        several batches make one step (`accumulate`), which is a mean over all their clips.
        """
        factors: dict[int, float] = {}
        for bucket in self.buckets:
            places = len(bucket)
            steps = -(-places // self.size)
            drawn = steps * self.size if places < self.size or accumulate == 1 else places
            if drawn > places:
                factors |= dict.fromkeys((item for item, _ in bucket), drawn / places)
        return factors

    def batch(self, number: int) -> tuple[int, ...]:
        """The items of batch `number`, counted from the start of the run."""
        epoch, place = divmod(number, self.length)
        return self._epoch(epoch)[place]

    def _draw(self, epoch: int) -> list[tuple[int, ...]]:
        batches: list[tuple[int, ...]] = []
        for number, bucket in enumerate(self.buckets):
            shuffled = [bucket[i][0] for i in order(len(bucket), self.seed, "clips", epoch, number)]
            if len(shuffled) < self.size:
                shuffled = (shuffled * (self.size // len(shuffled) + 1))[: self.size]
            batches += [
                tuple(shuffled[start : start + self.size])
                for start in range(0, len(shuffled), self.size)
            ]
        return [batches[i] for i in order(len(batches), self.seed, "batches", epoch)]
