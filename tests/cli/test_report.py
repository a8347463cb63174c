"""`--report FILE`: what a program reads that follows a command."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frisket.cli.report import event_file


def run(*words, cwd, **environment):
    """Run the command as the studio does."""
    return subprocess.run(
        [sys.executable, "-m", "frisket.cli", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
    )


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def report(tmp_path, monkeypatch):
    """A report of this process, closed afterwards; its seconds are those of the list."""
    seconds = [1000.0]
    monkeypatch.setattr(event_file.time, "time", lambda: seconds[0])
    event_file.open_report(tmp_path / "deep" / "events.jsonl")
    yield tmp_path / "deep" / "events.jsonl", seconds
    if event_file._open:
        event_file._open.pop().close(0)


def test_a_command_reports_its_way_from_start_to_end(tmp_path):
    (tmp_path / "clips").mkdir()
    for index in range(2):
        picture = Image.fromarray(np.full((48, 48, 3), 90 * index, np.uint8))
        picture.save(tmp_path / "clips" / f"{index}.png")
    ran = run("--report", "events.jsonl", "masks", ".", "--workers", 1, "--review", cwd=tmp_path)
    assert ran.returncode == 0
    events = read(tmp_path / "events.jsonl")
    assert events[0]["event"] == "start"
    assert events[0]["argv"][1:] == [
        *("--report", "events.jsonl", "masks", ".", "--workers", "1", "--review")
    ]
    assert events[-1] == {"at": events[-1]["at"], "event": "end", "code": 0}
    steps = [(each["done"], each["total"]) for each in events if each["event"] == "progress"]
    assert steps == [(1, 2), (2, 2)]
    assert any("draft: code Apache-2.0" in each.get("message", "") for each in events)
    outputs = {each["kind"]: Path(each["path"]) for each in events if each["event"] == "output"}
    assert outputs["masks"] == tmp_path / "masks"
    assert outputs["review"].is_file()
    assert "masks: 2 of 2" in ran.stderr  # what is shown stays


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("train", "none.toml"), "none.toml does not exist; `frisket init"),
        (("masks", ".", "--wrkers", "2"), "No such option: --wrkers"),
    ],
)
def test_an_error_is_reported_in_the_words_of_the_terminal(tmp_path, words, message):
    ran = run(*words, cwd=tmp_path, FRISKET_REPORT="events.jsonl")
    assert ran.returncode == 2
    start, error, end = read(tmp_path / "events.jsonl")
    assert start["event"] == "start"
    assert error["event"] == "error"
    assert error["message"].startswith(message)
    assert end["code"] == 2


def test_a_report_that_cannot_be_opened_is_refused_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    ran = run("--report", "file/events.jsonl", "families", cwd=tmp_path)
    assert ran.returncode == 2
    assert "events.jsonl: cannot be written" in ran.stderr
    assert ran.stdout == ""


def test_steps_are_thinned_and_a_stages_first_and_last_are_kept(report):
    path, seconds = report
    show = event_file.record_steps(lambda *_: None)
    for step in range(1, 501):
        show("training", step, 500, {"loss": 0.123456789})
        seconds[0] += 0.01
    show("saving", 1, 2)
    event_file.record_log(logging.INFO, "between")  # what was held back is not lost
    show("saving", 1, 2)
    show("saving", 2, 2)
    steps = [each for each in read(path) if each["event"] == "progress"]
    training = [each["done"] for each in steps if each["stage"] == "training"]
    assert training[0] == 1
    assert training[-1] == 500
    assert 20 <= len(training) <= 30  # five seconds, five a second
    assert steps[0]["values"] == {"loss": 0.123457}
    assert [each["done"] for each in steps if each["stage"] == "saving"] == [1, 2]


def test_a_long_stage_says_less_often(report):
    path, seconds = report
    show = event_file.record_steps(lambda *_: None)
    for step in range(1, 36_001):
        show("training", step, 40_000)
        seconds[0] += 0.1
    assert len(read(path)) < 3000  # an hour; five a second were 18,000


def test_numbers_without_a_json_name_and_names_that_are_no_text_can_be_read(report):
    path, _ = report
    event_file.record_steps(lambda *_: None)("training", 1, 2, {"loss": float("nan")})
    event_file.record_output("page", Path(os.fsdecode(b"/tmp/b\xe9b\xe9")))
    _, step, output = read(path)
    assert step["values"] == {"loss": "nan"}
    assert output["path"] == "/tmp/b\\udce9b\\udce9"


def test_a_full_disk_ends_the_report_and_not_the_command(report, capsys):
    path, _ = report
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, event_file._open[-1].descriptor)
    os.close(full)
    event_file.record_log(logging.INFO, "one")
    event_file.record_log(logging.INFO, "two")
    error = capsys.readouterr().err
    assert error.count("cannot be written (No space left on device)") == 1
    assert len(read(path)) == 1


def test_a_forked_child_writes_nothing(report):
    path, _ = report
    event_file._open[-1].pid += 1  # as a fork sees it
    event_file.record_log(logging.INFO, "of a worker")
    event_file._open[-1].pid -= 1
    assert [each["event"] for each in read(path)] == ["start"]
