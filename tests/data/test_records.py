"""What `prepare` hands on: the digest by which a run on disk is recognised."""

from pathlib import Path

from frisket.data.cached.store import Cache
from frisket.data.records import Item, Prepared, Swapped
from frisket.data.statistics import PrepareCounts


def test_the_digest_of_a_run_is_that_of_earlier_versions(tmp_path: Path) -> None:
    item = Item("a", "a.png", "l", ("t",), "c", (1, 2, 3), swaps=(Swapped("s", "u"),))
    edited = Item(
        "b", "b.png", "m", ("v",), None, (1, 2, 3), reference_sizes=((32, 48),), drawn=("d",)
    )
    cache = Cache(tmp_path)
    prepared = Prepared((item, edited), (item,), ("face",), PrepareCounts({}).report(), cache, 0.5)
    assert prepared.digest == "09b2ec7bead9c1528fd33518d2874a75"
