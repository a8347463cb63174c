"""An option of another trainer: when it is set, when it asks for something, and what is told."""

from pathlib import Path

import pytest

from frisket.importers.files import Written
from frisket.importers.options import OptionRule, OptionRules, OptionTable, Sheet, read_rules


def sheet_of(tree, **rules) -> Sheet:
    sections = {"top": {name: OptionRule(*rule) for name, rule in rules.items()}, "inner": {}}
    zeros, blanks = {"top": frozenset({"zero"})}, {"top": frozenset({"blank"})}
    held = OptionRules("their trainer", sections, zeros, blanks)
    return Sheet(Written(Path("job.toml"), tree, {}), held)


def noted(tree, **rules) -> dict[str, tuple[str, str]]:
    sheet = sheet_of(tree, **rules)
    sheet.top("top").close()
    return {note.option: (note.kind, note.message) for note in sheet.notes}


@pytest.mark.parametrize(
    ("value", "idle", "asks", "rests"),
    [
        (True, (1,), (), False),
        (True, (1.0,), (), False),
        (1, (True,), (), False),
        (True, (True,), (), True),
        (1.0, (1,), (), True),
        ("1.0", (1,), (), True),
        ("true", (1,), (), False),
        ("true", (True,), (), True),
        (False, (0,), (), True),
        ("false", (), (), True),
        (False, (), (False,), False),
        (0, (), (False,), True),
        (0, (), (0,), False),
        (False, (), (0,), True),
        ("constant", ("constant",), (), True),
        ("nan", ("constant",), (), False),
        ([1], ([1],), (), True),
        ({}, (), (), True),
    ],
)
def test_a_value_rests_by_type_and_value(value, idle, asks, rests):
    assert OptionRule("no equivalent", "", idle, asks).is_idle(value) is rests


def test_unset_values_are_as_if_left_out_and_get_their_note():
    tree = {"text": "", "null": None, "zero": 0, "blank": "", "count": 0, "odd": ""}
    rules = {name: ("mapped", f"here run.{name}") for name in tree if name != "odd"}
    sheet = sheet_of(tree, **rules)
    top = sheet.top("top")
    assert set(top.values) == {"blank", "count"}
    assert [name for name in tree if name in top] == ["blank", "count"]
    assert top.text("text", "x") == "x"
    assert top.number("text", 3) == 3
    assert top.flag("text", default=True) is True
    assert top.texts("text") == []
    assert top.tables("gone", "inner") == []
    assert top.whole("zero", 5, low=1) == 5
    top.close()
    kinds = {note.option: note.kind for note in sheet.notes}
    assert kinds == {
        "text": "not needed", "null": "not needed", "zero": "not needed", "blank": "mapped",
        "count": "mapped", "odd": "no equivalent",
    }  # fmt: skip


def test_an_option_that_must_be_there_is_shown_as_it_was_written():
    top = sheet_of({"train_data_dir": ""}).top("top")
    assert str(top.bad("train_data_dir", "a path is needed")).endswith(
        "train_data_dir = '': a path is needed"
    )


@pytest.mark.parametrize("opened", [OptionTable.table, OptionTable.tables])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_a_note_on_a_table_is_not_swallowed(opened, given, first):
    sheet = sheet_of({"adapter": {} if opened is OptionTable.table else []} if given else {})
    top = sheet.top("top")
    if first:
        opened(top, "adapter", "inner")
    top.say("adapter", "no equivalent", "trains the whole model there")
    if not first:
        opened(top, "adapter", "inner")
    top.say("adapter", "mapped", "a second note")
    top.close()
    assert [(note.option, note.message) for note in sheet.notes] == [
        ("adapter", "trains the whole model there")
    ]


def test_an_open_table_is_not_told_to_be_unknown():
    sheet = sheet_of({"adapter": {"rank": 1}})
    sheet.top("top").table("adapter", "inner")
    top = sheet.top("top")
    top.table("adapter", "inner")
    top.close()
    assert sheet.notes == []


@pytest.mark.parametrize(
    "trainer",
    ["kohya", "kohya_flags", "musubi", "onetrainer", "simpletuner", "ai_toolkit", "diffusion_pipe"],
)
def test_no_rule_mistakes_a_truth_for_a_number(trainer):
    """Every value that rests does so as itself only: `true` never by a 1, nor 1 by a `true`."""
    for rules in read_rules(trainer).sections.values():
        for rule in rules.values():
            numbers = any(each == 1 and not isinstance(each, bool) for each in rule.idle)
            truths = any(each is True for each in rule.idle)
            assert rule.is_idle(True) is truths
            assert rule.is_idle(1) is numbers
