"""Damaged caches: an index is mended, an entry is refused, and neither is taken for other data."""

import random
import shutil
from pathlib import Path

import pytest
import torch
from tests.fuzz.mutate import damage, tried

from frisket.data.cached.index import Index
from frisket.data.cached.store import Cache

KEY = "ab" * 20
QUICK = 80
MANY = pytest.mark.slow


def use(folder: Path) -> None:
    """What a `prepare` does with an index; nothing in it may be other than it was put."""
    with Index(folder) as index:
        for number in range(0, 120, 7):
            assert index.get("facts", f"clip {number}") in (None, [number, "ü" * 30])
        for number in range(100, 180):
            index.put("facts", f"clip {number}", [number, "ü" * 30])
        index.commit()
        assert index.get("facts", "clip 179") == [179, "ü" * 30]
    with Index(folder) as index:
        assert index.get("facts", "clip 179") == [179, "ü" * 30]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("index")
    with Index(folder) as made:
        for number in range(120):
            made.put("facts", f"clip {number}", [number, "ü" * 30])
    return (folder / "index.sqlite").read_bytes()


@pytest.mark.parametrize("seeds", [range(QUICK), pytest.param(range(QUICK, 2100), marks=MANY)])
def test_a_damaged_index(tmp_path: Path, index: bytes, seeds: range) -> None:
    def run(rng: random.Random) -> None:
        folder = tmp_path / "cache"
        folder.mkdir()
        try:
            (folder / "index.sqlite").write_bytes(damage(index, rng))
            if rng.random() < 0.2:  # as a killed writer leaves it
                (folder / "index.sqlite-journal").write_bytes(damage(index[:3000], rng))
            use(folder)
        finally:
            shutil.rmtree(folder)

    assert tried(seeds, run)["worked"] == len(seeds)


@pytest.mark.parametrize("seeds", [range(QUICK), pytest.param(range(QUICK, 2100), marks=MANY)])
def test_a_damaged_entry(tmp_path: Path, seeds: range) -> None:
    cache = Cache(tmp_path)
    tensors = {"latents": torch.arange(60.0).reshape(3, 4, 5), "half": torch.ones(7).bfloat16()}
    cache.store("latents", KEY, tensors, {"facts": "ü"})
    path = cache.path("latents", KEY)
    whole = path.read_bytes()

    def run(rng: random.Random) -> None:
        path.write_bytes(damage(whole, rng))
        entry = cache.load("latents", KEY)
        assert entry.notes == {"facts": "ü"}
        assert all(torch.equal(entry.tensors[name], tensors[name]) for name in tensors)

    tried(seeds, run)
