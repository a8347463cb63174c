"""`make check-gpu`: says at once where there is no card, and no check ends another."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.check_gpu import __main__ as command
from benchmarks.check_gpu import checking, supervising
from benchmarks.check_gpu.order import ENTRIES, FORETOLD, ROWS, Entry
from benchmarks.check_gpu.page import BEGIN, END, put_table
from benchmarks.check_gpu.supervising import Result, run_all

ROOT = Path(__file__).parents[2]
ACTED = Path(__file__).with_name("acted_checks.py")


@pytest.fixture
def acted(monkeypatch, tmp_path):
    """Runs checks that do what their names say; gives the lines that were written."""
    monkeypatch.setattr(supervising, "COMMAND", (sys.executable, str(ACTED)))

    def run(*entries: Entry, minutes: float = 1.0):
        told, path = [], tmp_path / "result.json"

        def tell(line):
            told.append(line)  # what was written by then is whole
            assert len(json.loads(path.read_text())["checks"]) == len(told)

        result = Result("acted")
        with (tmp_path / "log").open("w") as log:
            run_all(entries, result, minutes=minutes, output=path, log=log, tell=tell)
        assert json.loads(path.read_text())["whole"]
        return result

    return run


def entries(*names: str, limit: int = 20) -> list[Entry]:
    return [Entry(name, "", limit, 0) for name in names]


def test_no_card_is_said_at_once_and_is_no_failure(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("FRISKET_CHECK_DEVICE", raising=False)
    monkeypatch.setattr(sys, "argv", ["check_gpu"])
    command.main()
    assert "nothing was checked" in capsys.readouterr().out


def test_a_check_that_fails_dies_or_breaks_the_card_ends_no_other(acted):
    names = ("first", "fails", "dies", "then", "breaks", "after", "last")
    result = acted(*entries(*names))
    assert [line["name"] for line in result.checks] == list(names)
    assert [line["status"] for line in result.checks] == [
        *("PASS", "FAIL", "FAIL", "PASS", "PASS", "PASS", "PASS")
    ]
    assert "signal 9" in result.checks[2]["said"]
    processes = [line["numbers"]["pid"] for line in result.checks if "numbers" in line]
    assert len(set(processes)) == 3  # one till it died, one till the card broke, one more
    assert result.machine == {"device": "acted"}


def test_a_check_that_hangs_is_stopped_and_the_rest_goes_on(acted):
    result = acted(*entries("first"), *entries("hangs", limit=1), *entries("last"))
    assert [line["status"] for line in result.checks] == ["PASS", "FAIL", "PASS"]
    assert result.checks[1]["said"] == "still at it after 1 s"


def test_what_there_is_no_time_for_is_left_out_by_name(acted):
    result = acted(
        *entries("first"), *entries("hangs", limit=50), Entry("last", "", 50, 30), minutes=0.03
    )
    assert [line["status"] for line in result.checks] == ["PASS", "SKIP", "SKIP"]
    assert result.checks[1]["said"] == "no time was left to finish it"
    assert result.checks[2]["said"] == "no time was left for it"


def test_the_table_goes_between_its_marks(tmp_path):
    result = Result("cuda", {"device": "a card"})
    result.checks = [
        {"name": "one", "status": "FAIL", "said": "a | b\nc", "seconds": 1.0},
        {"name": "two", "status": "PASS", "said": "", "seconds": 2.0},
    ]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    put_table(page, result)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "| one | FAIL | 1.0 | a \\| b c |" in text
    assert "device a card" in text
    assert "1 of 2 passed, 1 failed" in text
    page.write_text("a page of another kind", encoding="utf-8")
    with pytest.raises(ValueError, match="has no lines"):
        put_table(page, result)


def test_every_check_is_there():
    # Read, not imported: the modules take all of Frisket in.
    def source(name: str) -> str:
        return (ROOT / "benchmarks" / name).read_text(encoding="utf-8")

    for entry in ENTRIES:
        module, _, name = entry.call.partition(":")
        assert f"\ndef {name}(place: Place" in source(f"check_gpu/{module}.py")
    assert all(f'"{name}"' in source("check_gpu/rows.py") for name in FORETOLD)
    assert all(f'"{name}"' in source("gpu_cost.py") for name in ROWS)
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)


def test_the_page_of_the_project_has_room_for_a_table():
    text = (ROOT / "docs" / "check-gpu.md").read_text(encoding="utf-8")
    assert text.index(BEGIN) < text.index(END)


@pytest.mark.slow
def test_the_program_runs_on_a_cpu(tmp_path):
    one_of_a_kind = (
        "contract: flux",
        "block swap",
        "experts take turns",
        "quantise nf4",
        "float8",
        "bfloat16",
        "attention",
        "train",
        "resume",
        "EMA",
        "speed: Qwen",
        "predicted memory: Wan 2.1 1.3B, swap",
    )
    path, options = tmp_path / "result.json", ("--device", "cpu", "--minutes", "20")
    found = subprocess.run(
        [*supervising.COMMAND, *options, "--json", path, "--only", *one_of_a_kind],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    checks = json.loads(path.read_text())["checks"]
    assert [line for line in checks if line["status"] == "FAIL"] == []
    assert found.returncode == 0
    assert sum(line["status"] == "PASS" for line in checks) >= 14


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a card: FRISKET_TEST_GPU=0")
@pytest.mark.filterwarnings("ignore")  # what libraries warn of on a card is no finding
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_on_a_card(entry, tmp_path):
    place = checking.Place(torch.device("cuda"), tmp_path)
    status, said = checking.run_check(entry.call, entry.given, place)
    if status == "SKIP":
        pytest.skip(said)
    assert status == "PASS", said
