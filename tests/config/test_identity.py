"""Options of methods on a command line: which method each is of, and what a table comes to."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frisket.config.identity.typed import (
    MethodOptions,
    label_methods,
    lay_methods,
    pair_methods,
)
from frisket.config.load import ConfigError, read
from frisket.config.provenance import Origin
from frisket.config.tree import Config


def pair(*methods: str, **options: Any) -> tuple[dict[str, Any], ...]:
    options = {"faces": [f"{label}={label}.png" for label in label_methods(methods)], **options}
    return pair_methods(MethodOptions(methods=methods, **options))


def test_what_is_typed_comes_to_tables() -> None:
    first, second = pair(
        *("instantid", "ip_adapter"),
        sources=("a", "b"),
        faces=("instantid=ada.jpg", "instantid=ida.jpg", "ip_adapter=x=y.jpg"),
        scales=(0.8,),
        masks=("-", "m.png"),
        embedders=("iresnet",),
        options=("instantid.control_scale=0.6", 'ip_adapter.kind="plus"', "ip_adapter.name=bare"),
    )
    assert first["faces"] == (Path("ada.jpg"), Path("ida.jpg"))
    assert second["faces"] == (Path("x=y.jpg"),)
    assert (first["scale"], "scale" in second) == (0.8, False)
    assert ("mask" in first, second["mask"]) == (False, Path("m.png"))
    assert (first["source"], second["source"]) == (Path("a"), Path("b"))
    assert first["embedder"] == second["embedder"] == "iresnet"
    assert first["options"] == {"control_scale": 0.6}
    assert second["options"] == {"kind": "plus", "name": "bare"}
    config, origin = lay_methods(
        MethodOptions(methods=("toy",), sources=("a",), faces=("a.png", "b=c.png"), strict=True),
        Config(),
        Origin(),
    )
    assert config.identity[0].faces == (Path("a.png"), Path("b=c.png"))
    assert config.identity[0].strict
    assert origin.where(("identity", 0, "scale")) == "--method toy"


def test_without_a_method_all_is_as_it_was() -> None:
    config, origin = Config(), Origin()
    assert lay_methods(MethodOptions(), config, origin) == (config, origin)
    assert "identity" not in config.model_dump()


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=6))
def test_labels_are_each_ones_own_and_say_the_method(names: list[str]) -> None:
    labels = label_methods(names)
    assert len(set(labels)) == len(labels)
    assert [label.partition("-")[0] for label in labels] == names
    assert [table["faces"] for table in pair(*names)] == [(Path(f"{name}.png"),) for name in labels]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"faces": ("a.png",)}, r"--face is of a method, and none is named: add --method NAME"),
        ({"scales": (0.5,)}, r"--method-scale is of a method"),
        ({"strict": True}, r"--method-strict is of a method"),
        ({"methods": ("a",)}, r"a is shown no picture: give --face FILE"),
        ({"methods": ("a", "b"), "faces": ("b=x",)}, r"a is shown no picture"),
        ({"methods": ("a", "b"), "faces": ("x", "y", "z")}, r"3 --face without a name for 2 --m"),
        ({"methods": ("a", "b"), "faces": ("a=x", "y")}, r"as in --face a=y"),
        ({"methods": ("a",), "faces": ("x",), "scales": (1, 2)}, r"2 --method-scale for 1 --m"),
        ({"methods": ("a",), "faces": ("x",), "options": ("tint",)}, r"write KEY=VALUE"),
        ({"methods": ("a",), "faces": ("x",), "options": ("b.x=1",)}, r"no --method b; there are"),
        (
            {"methods": ("a", "b"), "faces": ("x", "y"), "options": ("tint=1",)},
            r"say of which --method, as in a\.tint=1",
        ),
    ],
)
def test_what_cannot_be_paired_is_said(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        pair_methods(MethodOptions(**options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"--method toy: \[\[identity\]\] needs `source`: .*--method-source"),
        (
            {"sources": ("a",), "scales": (-1.0,)},
            r"--method toy: `identity\.0\.scale` should be greater than or equal to 0, got -1",
        ),
    ],
)
def test_values_are_refused_by_the_method_they_are_of(options: dict[str, Any], words: str) -> None:
    typed = MethodOptions(methods=("toy",), faces=("a.png",), **options)
    with pytest.raises(ConfigError, match=words):
        lay_methods(typed, Config(), Origin())


def test_tables_of_a_file_start_at_its_folder_and_can_be_set_aside(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[[identity]]\nmethod = "toy"\nsource = "toy"\nfaces = ["a.png", "/b.png"]\n')
    table = read(file)[0].identity[0]
    assert table.source == tmp_path / "toy"
    assert table.faces == (tmp_path / "a.png", Path("/b.png"))
    assert read(file, ["identity=[]"])[0].identity == ()
    file.write_text('[[identity]]\nmethod = "toy"\nsource = "toy"\nfaces = []\n')
    with pytest.raises(ConfigError, match=r"run\.toml line 4: `identity\.0\.faces`"):
        read(file)
    file.write_text('[[identity]]\nmethod = "toy"\nsource = "x"\nfaces = ["a"]\nscael = 1\n')
    with pytest.raises(ConfigError, match=r"unknown key `scael` in \[\[identity\]\], did you"):
        read(file)
