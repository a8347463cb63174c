"""Shelves: a plugin is a file or an entry point, and a mistyped name is helped."""

import sys
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

from frisket import registry
from frisket.registry import Shelf, UnknownPlugin, suggest


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A package `kitchen.pans` on disk with two plugins, one of which may not be imported."""
    package = tmp_path / "kitchen" / "pans"
    package.mkdir(parents=True)
    (tmp_path / "kitchen" / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "wok.py").write_text("PAN = 'a wok'\n")
    (package / "cursed.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield Shelf("kitchen.pans", "PAN", "kitchen.pans")
    for name in [name for name in sys.modules if name.startswith("kitchen")]:
        del sys.modules[name]


@pytest.fixture
def guests(monkeypatch):
    """Entry points of other packages: one new pan, one that has the name of ours."""
    points = [
        EntryPoint("tagine", "types:SimpleNamespace", "kitchen.pans"),
        EntryPoint("wok", "types:SimpleNamespace", "kitchen.pans"),
    ]
    monkeypatch.setattr(
        registry, "entry_points", lambda group: points if group == "kitchen.pans" else []
    )


def test_listing_names_imports_no_plugin(shelf):
    assert shelf.names() == ["cursed", "wok"]


def test_a_file_is_a_plugin(shelf):
    assert shelf.load("wok") == "a wok"


def test_an_entry_point_is_a_plugin_and_ours_wins(shelf, guests):
    assert shelf.names() == ["cursed", "wok", "tagine"]
    assert shelf.load("tagine") is SimpleNamespace
    assert shelf.load("wok") == "a wok"


def test_an_unknown_name_is_helped(shelf):
    with pytest.raises(
        UnknownPlugin, match="no kitchen plugin is named 'wokk', did you mean 'wok'"
    ):
        shelf.load("wokk")


def test_a_broken_plugin_says_so_itself(shelf):
    with pytest.raises(RuntimeError, match="imported"):
        shelf.load("cursed")


def test_nearest_lists_all_where_nothing_is_near():
    assert suggest("xyz", ["wan", "pocket"]) == "; there are: pocket, wan"
    assert suggest("wam", ["wan", "pocket"]) == ", did you mean 'wan'?"


def test_every_own_shelf_binds_its_plugins():
    from frisket.families.base import FAMILIES
    from frisket.losses.base import TERMS

    assert {"pocket", "wan"} <= set(FAMILIES.names())
    assert {"denoise", "prior"} <= set(TERMS.names())
    assert all(FAMILIES.load(name).name == name for name in FAMILIES.names())
    assert all(callable(TERMS.load(name)) for name in TERMS.names())


def test_a_beginning_is_meant_before_a_word_that_is_spelt_alike():
    known = ["wan", "qwen_image", "qwen_image_21", "flux"]
    assert suggest("qwen", known) == ", did you mean 'qwen_image' or 'qwen_image_21'?"
    assert suggest("image", known) == ", did you mean 'qwen_image' or 'qwen_image_21'?"
    assert suggest("wam", known) == ", did you mean 'wan'?"
