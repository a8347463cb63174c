"""The ratchet says what is new and how to mend it, and is lowered but never raised."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.house.ratchet import (
    Ceiling,
    find_rise,
    find_slack,
    measure_ceiling,
    read_ratchet,
    write_ratchet,
)
from tests.house.reading import Place

ROOT = Path(__file__).parents[2]
PLACES = [Place("a.py", 1, "found"), Place("a.py", 5, "found"), Place("b.py", 2, "said")]
LONG = [Place("a.py", 9, "load", 97), Place("b.py", 3, "train", 120)]


def test_at_its_ceiling_nothing_is_said():
    for places in (PLACES, LONG, []):
        ceiling = measure_ceiling(places)
        assert find_rise("words", places, ceiling) is None
        assert find_slack("words", places, ceiling) is None


def test_a_rise_names_what_is_new_and_the_fix():
    message = find_rise("words", [*PLACES, Place("c.py", 7, "each")], measure_ceiling(PLACES))
    assert message.startswith("words: 4 faults, at most 3. Fix: say what it holds")
    assert message.endswith("New among:\n  src/frisket/c.py:7: each")
    message = find_rise(
        "functions", [*LONG[:1], Place("b.py", 3, "train", 121)], measure_ceiling(LONG)
    )
    assert message.startswith("functions: 2 faults, at most 2, largest 121 (at most 120).")
    assert message.endswith("\n  src/frisket/b.py:3: train (121)")
    assert "words: 1 faults, at most 0." in find_rise("words", PLACES[:1], Ceiling(0, 0, {}))


def test_a_long_list_is_cut_short():
    many = [Place("a.py", line, "found") for line in range(1, 31)]
    message = find_rise("words", many, measure_ceiling(PLACES))
    assert message.count("\n") == 21
    assert message.endswith("and 10 more")


def test_slack_asks_for_a_lower_ceiling():
    assert "words: 2 faults" in find_slack("words", PLACES[:2], measure_ceiling(PLACES))
    assert "--write" in find_slack("functions", LONG[:1], measure_ceiling(LONG))


def test_it_is_written_and_read_again(tmp_path):
    ceilings = {
        "words": measure_ceiling(PLACES),
        "functions": measure_ceiling(LONG),
        "folders": measure_ceiling([Place("data/layouts", 1, "", 25)]),
        "files": measure_ceiling([]),
    }
    write_ratchet(ceilings, tmp_path / "ratchet.toml")
    assert read_ratchet(tmp_path / "ratchet.toml") == ceilings
    assert read_ratchet(tmp_path / "none.toml") == {}


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (("words", "pocket"), ["pocket/b.py:1: told"]),
        (("words", "--by", "name"), ["     2  found", "     1  told"]),
        (("words", "--by", "folder"), ["     2  .", "     1  pocket"]),
    ],
)
def test_the_command_lists_and_counts(tmp_path, words, lines):
    (tmp_path / "pocket").mkdir()
    (tmp_path / "a.py").write_text("found = found = 1\n")
    (tmp_path / "pocket" / "b.py").write_text("told = 1\n")
    measure, *paths = words
    command = [sys.executable, ROOT / "scripts" / "house.py", measure, "--root", ".", *paths]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == lines
