"""Options made of a model: types, bounds, names, flags, lists, and what is no option."""

from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import Field
from typer.testing import CliRunner

from frisket.cli.model_options import add_command, list_options, read_type
from frisket.config.command_options import ARGUMENT, option, pick_fields
from frisket.config.data import Count, Section


class Inner(Section):
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A share."""


class Half(Section):
    shown: int = 0
    """An option."""
    hidden: int = 0
    """None."""


class Model(Section):
    folder: Annotated[Path, ARGUMENT]
    """Where."""
    inner: Inner = Inner()
    kind: Annotated[Literal["a", "b"], option("--type", "-t", panel="Kinds")] = "a"
    """a or b."""
    count: Count | None = None
    """How many."""
    words: tuple[str, ...] = ()
    """Some words."""
    soft: bool = False
    """Softly."""
    strict: Annotated[bool, option("--strict/--no-strict")] = True
    """Strictly."""
    pair: tuple[int, int] | None = None
    """Two numbers."""
    half: Annotated[Half, pick_fields("shown")] = Half()


def typed(*words: str):
    app, calls = typer.Typer(), []
    add_command(app, "do", calls.append, lambda: Model)
    result = CliRunner().invoke(app, list(words), env={"COLUMNS": "120", "NO_COLOR": "1"})
    return (calls[0] if calls else None), result.output


def test_only_what_is_typed_is_handed_on_and_with_its_text() -> None:
    values, _ = typed(
        "x",
        "--share",
        "0.5",
        "--words",
        "a b",
        "--words",
        "c",
        "--soft",
        "-t",
        "b",
        "--pair",
        "1",
        "2",
    )
    assert values == {
        ("folder",): (Path("x"), "FOLDER x"),
        ("inner", "share"): (0.5, "--share 0.5"),
        ("words",): (["a b", "c"], "--words a b --words c"),
        ("soft",): (True, "--soft"),
        ("kind",): ("b", "--type b"),
        ("pair",): ((1, 2), "--pair 1 2"),
    }
    assert typed("x")[0] == {("folder",): (Path("x"), "FOLDER x")}


def test_a_flag_is_turned_off_where_it_has_a_name_for_that() -> None:
    assert typed("x", "--no-strict")[0][("strict",)] == (False, "--no-strict")
    assert "No such option" in typed("x", "--no-soft")[1]


@pytest.mark.parametrize("words", [(), ("x", "--share", "2"), ("x", "--count", "0")])
def test_bounds_and_what_is_required_are_usage(words: tuple[str, ...]) -> None:
    values, text = typed(*words)
    assert values is None
    assert "Usage" in text


def test_the_help_says_what_the_model_says() -> None:
    text = typed("--help")[1]
    for part in ("Kinds", "--type", "-t", "a or b.", "0<=x<=1", "default: 0.5", "Repeatable."):
        assert part in text


def test_names_are_those_of_the_fields_within_their_sections() -> None:
    assert [made.name for made in list_options(Model)] == [
        *("folder", "inner_share", "kind", "count", "words", "soft", "strict", "pair", "half_shown")
    ]


class Odd(Section):
    table: dict[str, int] = Field(default_factory=dict)
    """A table."""
    pairs: tuple[tuple[int, int], ...] = ()
    """Pairs."""
    either: int | str = 0
    """Either."""


@pytest.mark.parametrize("made", list_options(Odd), ids=lambda made: made.name)
def test_what_has_no_form_on_a_command_line_needs_a_read(made) -> None:
    with pytest.raises(TypeError, match="`read`"):
        read_type(made.info, made.typed)
