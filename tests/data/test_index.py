"""data/cached/index.py and captions.py: hashes that see every change, captions as trained."""

import os
import time
from itertools import pairwise
from pathlib import Path

import pytest

from frisket.data.cached.index import Index
from frisket.data.captions import ORDERS, on_background, orders, templated, triggered


def old(path: Path, seconds: float = 60) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_a_change_is_seen_even_with_the_same_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "ü n.png"
    with Index(tmp_path) as index:
        seen = []
        for text in ("aaaa", "bbbb", "cccc"):
            file.write_text(text)
            os.utime(file, (1, 1))
            seen.append(index.content(file))
    assert all(a != b for a, b in pairwise(seen))


def test_content_and_not_the_name_counts(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text("same")
    with Index(tmp_path) as index:
        assert index.content(tmp_path / "a.png") == index.content(tmp_path / "b.png")


def test_a_folder_of_frames_changes_with_any_of_them(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(3):
        (frames / f"{number}.png").write_text(str(number))
    with Index(tmp_path) as index:
        whole = index.content(frames)
        (frames / "1.png").rename(frames / "9.png")
        renamed = index.content(frames)
        (frames / "2.png").write_text("x")
        edited = index.content(frames)
    assert len({whole, renamed, edited}) == 3


def test_a_damaged_index_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"this is no database, but long enough" * 99)
    with Index(tmp_path) as index:
        index.put("probe", "a", [1, None, 2.5])
    with Index(tmp_path) as index:
        assert index.get("probe", "a") == [1, None, 2.5]


def test_weights_are_told_apart_by_a_glance(tmp_path: Path) -> None:
    place = tmp_path / "vae"
    place.mkdir()
    (place / "model.safetensors").write_bytes(os.urandom(3 << 20))
    with Index(tmp_path) as index:
        one = index.fingerprint(place)
        assert index.fingerprint(place) == one
        with (place / "model.safetensors").open("r+b") as file:
            file.write(b"other")
        assert index.fingerprint(place) != one


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a cat", "sks a cat"),
        ("a SKS cat", "a SKS cat"),
        ("cat, hat", "sks, cat, hat"),
        ("sks, hat", "sks, hat"),
        ("a tsks", "sks a tsks"),
        ("", "sks"),
    ],
)
def test_the_trigger_is_put_first_unless_it_is_there(caption: str, expected: str) -> None:
    assert triggered(caption, "sks") == expected


def test_orders_keep_the_tags_and_the_trigger_first() -> None:
    made = orders("sks, a, b, c, d, e", "sks", shuffle=True)
    assert len(set(made)) == ORDERS
    assert made[0] == "sks, a, b, c, d, e"
    for caption in made:
        assert caption.startswith("sks, ")
        assert sorted(caption.split(", ")) == ["a", "b", "c", "d", "e", "sks"]
    assert made == orders("sks, a, b, c, d, e", "sks", shuffle=True)
    assert orders("a, b", "", shuffle=True) == ("a, b", "b, a")
    assert orders("a, b", "", shuffle=False) == ("a, b",)


def test_tags_that_stay_in_place():
    made = orders("a, b, c, d", "", shuffle=True, keep=2)
    assert set(made) == {"a, b, c, d", "a, b, d, c"}
    assert orders("a, sks, c", "sks", shuffle=True, keep=1) == ("sks, a, c",)
    marked = "a, b ||| c, d ||| e, f"
    assert set(orders(marked, "", shuffle=True, keep="|||")) == {
        "a, b, c, d, e, f",
        "a, b, d, c, e, f",
    }
    assert orders(marked, "", shuffle=False, keep="|||") == ("a, b, c, d, e, f",)
    assert set(orders("a, b", "", shuffle=True, keep="|||")) == {"a, b", "b, a"}
    assert set(orders("a, b ||| c, d", "", shuffle=True, keep="|||")) == {
        "a, b, c, d",
        "a, b, d, c",
    }


def test_what_stands_around_every_caption():
    assert templated("a cat", "photo, {caption}, 4k") == "photo, a cat, 4k"
    assert templated("a {caption}", "") == "a {caption}"


def test_a_backdrop_without_words_leaves_the_caption() -> None:
    template = "{caption} on {background}"
    assert on_background("sks", "a {red} wall", template) == "sks on a {red} wall"
    assert on_background("sks", "", template) == "sks"
