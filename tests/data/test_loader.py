"""Tests of data/loader.py and data/schedule.py: the stream is a function of seed and number."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from frisket.data.cached.store import Cache, CorruptEntry, key_of
from frisket.data.loader import Loader, Store
from frisket.data.records import Item, Prepared, PrepareReport, Swapped
from frisket.data.sample import Batch
from frisket.data.schedule import Schedule

SHAPES = ((1, 4, 4), (1, 4, 6))


@pytest.fixture(autouse=True)
def _read_out(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every reader ends with its test: its type checks draw numbers beside a property test."""
    made: list[Loader] = []
    init = Loader.__init__

    def noting(self: Loader, *given: object, **named: object) -> None:
        init(self, *given, **named)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(Loader, "__init__", noting)
    yield
    for loader in made:
        loader.close()


def put(cache: Cache, kind: str, name: str, tensors: dict[str, torch.Tensor], **notes: str) -> str:
    key = key_of({"name": name, "kind": kind})
    cache.store(kind, key, tensors, notes)
    return key


def filled(cache: Cache, count: int = 7, **more: object) -> Prepared:
    """Clips 0, 2, 4 ... of one shape and 1, 3 ... of another; latents hold the clip's number."""
    empty = put(cache, "text", "", {"tokens": torch.full((1, 1, 2), -1.0)})
    items = []
    for number in range(count):
        shape = SHAPES[number % 2]
        texts = [
            put(cache, "text", f"{number} {o}", {"tokens": torch.full((1, 1, 2), number + o / 10)})
            for o in range(3)
        ]
        swaps = []
        for swap in range(4):
            pixels = torch.full((2, *shape), 100.0 * (swap + 1) + number)
            latents = put(cache, "latents", f"{number} s{swap}", {"latents": pixels})
            said = put(cache, "text", f"{number} s{swap}", {"tokens": torch.full((1, 1, 2), 50.0)})
            swaps.append(Swapped(latents, said))
        items.append(
            Item(
                name=str(number),
                clip=f"{number}.png",
                latents=put(
                    cache,
                    "latents",
                    str(number),
                    {"latents": torch.full((2, *shape), 1.0 * number)},
                ),
                texts=tuple(texts),
                coverage=put(
                    cache,
                    "coverage",
                    str(number),
                    {"planes": torch.ones(1, *shape)},
                    regions="hair",
                )
                if number
                else None,
                shape=shape,
                weight=1.0 + number,
                dropout=0.25,
                empty=empty,
                swaps=tuple(swaps) if number else (),
            )
        )
    report = PrepareReport(count, 0, (), (), (), (), (), (), 0, {})
    prepared = Prepared(tuple(items), (), ("face", "hair"), report, cache, swap_rate=0.5)
    return replace(prepared, **more)


def seen(batch: Batch) -> tuple[object, ...]:
    tokens = batch.conditioning["tokens"][:, 0, 0].tolist()
    return batch.names, batch.latents[:, 0, 0, 0, 0].tolist(), tokens, batch.swapped.tolist()


def test_the_stream_from_any_step_is_the_tail_of_the_whole(cache: Cache) -> None:
    prepared = filled(cache)
    whole = [seen(b) for b in islice(Loader(prepared, batch=2, seed=3).stream(), 20)]
    for start in (1, 4, 13):
        tail = islice(Loader(prepared, batch=2, seed=3).stream(start), 20 - start)
        assert [seen(b) for b in tail] == whole[start:]


def test_reading_ahead_and_memory_change_nothing(cache: Cache) -> None:
    prepared = filled(cache)
    plain = Loader(prepared, batch=2, seed=0, prefetch=0, megabytes=0)
    ahead = Loader(prepared, batch=2, seed=0, prefetch=4)
    order = [0, 1, 2, 3, 9, 2, 3, 4, 30, 5]  # a trainer that jumps and goes back
    assert [seen(plain.at(n)) for n in order] == [seen(ahead.at(n)) for n in order]
    ahead.close()


def test_seeds_and_epochs_differ(cache: Cache) -> None:
    prepared = filled(cache)
    loader = Loader(prepared, batch=1, seed=0)
    epochs = [[loader.at(n).names for n in range(s, s + 7)] for s in (0, 7, 14)]
    assert all(sorted(e) == [(str(n),) for n in range(7)] for e in epochs)
    assert len({tuple(e) for e in epochs}) == 3
    other = Loader(prepared, batch=1, seed=1)
    assert [other.at(n).names for n in range(7)] != epochs[0]


def test_processes_share_the_stream_without_overlap(cache: Cache) -> None:
    prepared = filled(cache)
    alone = Loader(prepared, batch=2, seed=0)
    pair = [Loader(prepared, batch=2, seed=0, rank=rank, world=2) for rank in (0, 1)]
    streams = [loader.stream() for loader in pair]
    dealt = [seen(next(streams[number % 2])) for number in range(12)]
    assert dealt == [seen(alone.at(number)) for number in range(12)]
    with pytest.raises(ValueError, match="rank 2 of 2"):
        Loader(prepared, batch=2, seed=0, rank=2, world=2)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3)])
def test_another_number_of_processes_goes_on_where_the_row_was(
    cache: Cache, before: int, after: int
) -> None:
    prepared = filled(cache)

    def dealt(world: int, start: int, rounds: int) -> list[object]:
        streams = [
            Loader(prepared, batch=2, seed=0, rank=rank, world=world).stream(start)
            for rank in range(world)
        ]
        return [seen(next(stream)) for _ in range(rounds) for stream in streams]

    alone = Loader(prepared, batch=2, seed=0)
    first = dealt(before, 0, 3)
    second = dealt(after, len(first), 2)
    assert first + second == [seen(alone.at(row)) for row in range(len(first) + len(second))]


def items(sizes: list[tuple[int, int]]) -> list[Item]:
    """`sizes`: how many clips of each shape, and how often each is repeated."""
    return [
        Item(f"{shape} {n}", "", "", ("",), None, (1, shape + 1, 1), repeats=repeats)
        for shape, (count, repeats) in enumerate(sizes)
        for n in range(count)
    ]


@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(
    sizes=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 3)), min_size=1, max_size=4),
    batch=st.integers(1, 6),
    seed=st.integers(0, 99),
    epoch=st.integers(0, 3),
)
def test_every_epoch_sees_every_clip_and_never_mixes_shapes(
    sizes: list[tuple[int, int]], batch: int, seed: int, epoch: int
) -> None:
    clips = items(sizes)
    schedule = Schedule(clips, batch=batch, seed=seed)
    first = epoch * schedule.length
    batches = [schedule.batch(first + n) for n in range(schedule.length)]
    count = Counter(item for one in batches for item in one)
    for one in batches:
        assert 0 < len(one) <= batch
        assert len({clips[item].shape for item in one}) == 1
    for index, clip in enumerate(clips):
        bucket = sum(other.repeats for other in clips if other.shape == clip.shape)
        if bucket >= batch:
            assert count[index] == clip.repeats
        else:  # goes round until it fills one batch
            assert count[index] >= clip.repeats
            assert all(len(one) == batch for one in batches if index in one)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.tuples(st.integers(1, 7), st.integers(1, 3)), min_size=1, max_size=4),
    batch=st.integers(1, 6),
)
def test_the_factor_told_is_the_share_of_the_steps(
    sizes: list[tuple[int, int]], batch: int
) -> None:
    """A step is a mean over its clips, so a clip of a batch of two has half of it."""
    clips = items(sizes)
    schedule = Schedule(clips, batch=batch, seed=0)
    shares: Counter[int] = Counter()
    for one in map(schedule.batch, range(schedule.length)):
        for item in one:
            shares[clips[item].shape[1]] += Fraction(1, len(one))
    factors = schedule.factors()
    for index, clip in enumerate(clips):
        places = sum(other.repeats for other in clips if other.shape == clip.shape)
        fair = Fraction(places, batch)
        assert factors.get(index, 1.0) == pytest.approx(float(shares[clip.shape[1]] / fair))


def test_a_clip_alone_in_its_bucket_pulls_by_the_size_of_the_batch() -> None:
    schedule = Schedule(items([(8, 1), (1, 1)]), batch=4, seed=0)
    assert schedule.factors() == {8: 4.0}
    assert schedule.factors(accumulate=4) == {8: 4.0}
    ragged = Schedule(items([(9, 1)]), batch=4, seed=0)
    assert ragged.factors()[0] == pytest.approx(12 / 9)
    assert ragged.factors(accumulate=4) == {}


def test_every_epoch_groups_clips_anew_and_orders_the_shapes_anew() -> None:
    schedule = Schedule(items([(6, 1), (6, 1), (6, 1)]), batch=3, seed=0)
    epochs = [[schedule.batch(6 * epoch + n) for n in range(6)] for epoch in range(4)]
    groups = {frozenset(map(frozenset, batches)) for batches in epochs}
    orders = {tuple(one[0] // 6 for one in batches) for batches in epochs}
    assert len(groups) == len(orders) == 4


def test_swap_dropout_and_tag_order_come_at_their_rates(cache: Cache) -> None:
    prepared = filled(cache, count=3)
    loader = Loader(prepared, batch=1, seed=0)
    drawn = [loader.at(n) for n in range(600)]
    masked = [b for b in drawn if b.names != ("0",)]
    rate = sum(bool(b.swapped) for b in masked) / len(masked)
    assert rate == pytest.approx(0.5, abs=0.06)
    assert not any(bool(b.swapped) for b in drawn if b.names == ("0",))
    empty = [float(b.conditioning["tokens"].min()) == -1 for b in drawn]
    assert sum(empty) / len(empty) == pytest.approx(0.25, abs=0.05)
    for batch in drawn:  # a composite comes with its own words, a plain clip with one of its orders
        value, text = float(batch.latents.min()), float(batch.conditioning["tokens"].min())
        assert bool(batch.swapped) == (value >= 100)
        assert text == -1 or (text == 50) == bool(batch.swapped)
    orders = Counter(round(float(b.conditioning["tokens"].min()), 1) for b in drawn)
    assert {0.0, 0.1, 0.2} <= orders.keys()
    backgrounds = Counter(int(float(b.latents.min()) // 100) for b in drawn if bool(b.swapped))
    assert set(backgrounds) == {1, 2, 3, 4}
    unswapped = Loader(replace(prepared, swap_rate=0.0), batch=1, seed=0)
    assert not any(bool(unswapped.at(n).swapped) for n in range(50))


def test_each_place_of_a_batch_is_drawn_for_itself(cache: Cache) -> None:
    prepared = filled(cache, count=7)
    loader = Loader(prepared, batch=4, seed=0, prefetch=0)
    batches = [loader.at(n) for n in range(60)]
    swapped = [
        {bool(yes) for yes, name in zip(b.swapped, b.names, strict=True) if name != "0"}
        for b in batches
    ]
    assert sum(len(kinds) == 2 for kinds in swapped) > 20  # all alike, it would be none
    empty = [set((b.conditioning["tokens"].amin((1, 2)) == -1).tolist()) for b in batches]
    assert sum(len(kinds) == 2 for kinds in empty) > 10


def test_planes_go_to_their_region_by_name_and_unmasked_clips_have_none(cache: Cache) -> None:
    loader = Loader(filled(cache), batch=1, seed=0)
    batches = {b.names[0]: b for b in (loader.at(n) for n in range(7))}
    assert batches["3"].coverage[0].mean((1, 2, 3)).tolist() == [0.0, 1.0]  # face, hair
    assert batches["3"].masked.tolist() == [True]
    assert batches["0"].masked.tolist() == [False]
    assert not batches["0"].coverage.any()
    assert batches["3"].weight.tolist() == [4.0]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("kind", ["latents", "coverage", "text"])
def test_a_corrupt_entry_is_rebuilt_and_never_trained_on(
    cache: Cache, kind: str, prefetch: int
) -> None:
    prepared = filled(cache)
    expected = [seen(Loader(prepared, batch=1, seed=0).at(n)) for n in range(30)]
    item = prepared.items[5]
    keys = {"latents": item.latents, "coverage": item.coverage, "text": item.empty}
    path = cache.path(kind, keys[kind])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 64]))
    calls: list[int] = []

    def rebuild() -> None:
        assert not path.exists()
        calls.append(path.write_bytes(whole))

    loader = Loader(replace(prepared, rebuild=rebuild), batch=1, seed=0, prefetch=prefetch)
    assert [seen(loader.at(n)) for n in range(30)] == expected
    assert len(calls) == 1


@pytest.mark.parametrize("rebuild", [None, lambda: None])
def test_without_a_way_to_rebuild_the_file_is_named(
    cache: Cache, rebuild: Callable[[], None] | None
) -> None:
    prepared = filled(cache, count=1, rebuild=rebuild)
    path = cache.path("latents", prepared.items[0].latents)
    path.write_bytes(b"")
    with pytest.raises(CorruptEntry, match=str(path)):
        Loader(prepared, batch=1, seed=0).at(0)


def test_held_out_clips_come_plain(cache: Cache) -> None:
    prepared = filled(cache)
    held = replace(prepared, items=prepared.items[2:], held=prepared.items[:2])
    batches = Loader(held, batch=4, seed=0).collate_held()
    assert [seen(b) for b in batches] == [
        (("0",), [0.0], [0.0], [False]),
        (("1",), [1.0], [1.0], [False]),
    ]


def test_memory_is_bounded(cache: Cache) -> None:
    size = 1 << 18
    keys = [put(cache, "latents", str(n), {"latents": torch.zeros(size // 4)}) for n in range(8)]
    store = Store(cache, megabytes=1)
    for key in keys * 2:
        store.load("latents", key)
    assert store.bytes == 1 << 20
    one = store.load("latents", keys[-1])
    assert store.load("latents", keys[-1]) is one


def test_an_empty_set_is_refused() -> None:
    with pytest.raises(ValueError, match="no clips to train on"):
        Schedule([], batch=1, seed=0)
