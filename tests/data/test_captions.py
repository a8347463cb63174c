"""Captions as trained: trigger, tag orders, template, the words of a background."""

import pytest

from frisket.data.captions import ORDERS, add_trigger, apply_template, list_orders, name_background


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
    assert add_trigger(caption, "sks") == expected


def test_orders_keep_the_tags_and_the_trigger_first() -> None:
    made = list_orders("sks, a, b, c, d, e", "sks", shuffle=True)
    assert len(set(made)) == ORDERS
    assert made[0] == "sks, a, b, c, d, e"
    for caption in made:
        assert caption.startswith("sks, ")
        assert sorted(caption.split(", ")) == ["a", "b", "c", "d", "e", "sks"]
    assert made == list_orders("sks, a, b, c, d, e", "sks", shuffle=True)
    assert list_orders("a, b", "", shuffle=True) == ("a, b", "b, a")
    assert list_orders("a, b", "", shuffle=False) == ("a, b",)


def test_tags_that_stay_in_place():
    made = list_orders("a, b, c, d", "", shuffle=True, keep=2)
    assert set(made) == {"a, b, c, d", "a, b, d, c"}
    assert list_orders("a, sks, c", "sks", shuffle=True, keep=1) == ("sks, a, c",)
    marked = "a, b ||| c, d ||| e, f"
    assert set(list_orders(marked, "", shuffle=True, keep="|||")) == {
        "a, b, c, d, e, f",
        "a, b, d, c, e, f",
    }
    assert list_orders(marked, "", shuffle=False, keep="|||") == ("a, b, c, d, e, f",)
    assert set(list_orders("a, b", "", shuffle=True, keep="|||")) == {"a, b", "b, a"}
    assert set(list_orders("a, b ||| c, d", "", shuffle=True, keep="|||")) == {
        "a, b, c, d",
        "a, b, d, c",
    }


def test_what_stands_around_every_caption():
    assert apply_template("a cat", "photo, {caption}, 4k") == "photo, a cat, 4k"
    assert apply_template("a {caption}", "") == "a {caption}"


def test_a_backdrop_without_words_leaves_the_caption() -> None:
    template = "{caption} on {background}"
    assert name_background("sks", "a {red} wall", template) == "sks on a {red} wall"
    assert name_background("sks", "", template) == "sks"
