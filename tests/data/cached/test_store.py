"""Tests of data/cached/store.py: what is read back is what was written, or an error."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frisket.data.cached.store import Cache, CannotWrite, CorruptEntry, key_of

KEY = "ab" * 20


def entry() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "latents": torch.randn(4, 1, 3, 5, generator=generator),
        "half": torch.randn(2, 3, generator=generator).bfloat16(),
        "scalar": torch.tensor(7),
    }


def test_an_entry_comes_back_bit_for_bit(cache: Cache) -> None:
    cache.store("latents", KEY, entry(), {"note": "ü"})
    back = cache.load("latents", KEY)
    assert back.notes == {"note": "ü"}
    assert back.tensors.keys() == entry().keys()
    for name, tensor in entry().items():
        assert back.tensors[name].dtype == tensor.dtype
        assert torch.equal(back.tensors[name], tensor)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unseen(place: float, bit: int, tmp_path_factory) -> None:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    cache.store("latents", KEY, entry(), {"note": "n"})
    path = cache.path("latents", KEY)
    payload = bytearray(path.read_bytes())
    payload[int(place * len(payload))] ^= 1 << bit
    path.write_bytes(payload)
    with pytest.raises(CorruptEntry, match=str(path)):
        cache.load("latents", KEY)


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_no_cut_off_file_goes_unseen(share: float, tmp_path_factory) -> None:
    cache = Cache(tmp_path_factory.mktemp("cache"))
    cache.store("latents", KEY, entry())
    path = cache.path("latents", KEY)
    payload = path.read_bytes()
    path.write_bytes(payload[: int(share * len(payload))])
    with pytest.raises(CorruptEntry):
        cache.load("latents", KEY)


def test_an_entry_under_another_name_is_refused(cache: Cache) -> None:
    cache.store("latents", KEY, entry())
    other = cache.path("latents", "cd" * 20)
    other.parent.mkdir(parents=True)
    other.write_bytes(cache.path("latents", KEY).read_bytes())
    with pytest.raises(CorruptEntry, match="written as"):
        cache.load("latents", "cd" * 20)


def test_a_missing_entry_says_what_to_do(cache: Cache) -> None:
    with pytest.raises(CorruptEntry, match="run `frisket prepare` again"):
        cache.load("text", KEY)


def test_a_failed_write_leaves_the_old_entry_and_no_litter(cache: Cache, monkeypatch) -> None:
    cache.store("latents", KEY, {"latents": torch.zeros(2)})

    def full(self: Path, payload: bytes) -> None:
        with self.open("wb") as file:
            file.write(payload[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CannotWrite, match="No space left on device"):
        cache.store("latents", KEY, {"latents": torch.ones(2)})
    monkeypatch.undo()
    assert torch.equal(cache.load("latents", KEY).tensors["latents"], torch.zeros(2))
    assert len(list(cache.path("latents", KEY).parent.iterdir())) == 1


def test_a_folder_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotWrite, match=r"run\.cache"):
        Cache(tmp_path / "file" / "cache")


def test_half_written_files_of_the_dead_are_swept_and_living_ones_kept(cache: Cache) -> None:
    import os

    place = cache.path("text", KEY).parent
    place.mkdir(parents=True)
    old, young = place / ".a.safetensors.1.tmp", place / ".b.safetensors.2.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    assert cache.sweep() == 1
    assert young.exists()
    assert not old.exists()


def test_keys_depend_on_every_value_and_not_on_order() -> None:
    assert key_of({"a": 1, "b": [1, 2]}) == key_of({"b": [1, 2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
    assert key_of({"a": 1}) != key_of({"a": 1.5})
    assert key_of({"picks": [1, 2]}) != key_of({"picks": [2, 1]})
    with pytest.raises(ValueError, match="Out of range"):
        key_of({"a": float("nan")})
