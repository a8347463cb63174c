"""What a report says: also one that is cut, or not ours; and how an end is judged."""

import json

import pytest

from frisket.studio.jobs.job import Job, judge_end
from frisket.studio.jobs.report_tail import ReportTail, read_last_events, read_last_lines
from frisket.studio.jobs.spec import JobSpec


@pytest.fixture
def tail(tmp_path):
    return ReportTail(tmp_path / "events.jsonl")


def append(tail, *events):
    with tail.path.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def step(at, done, total=100, stage="training"):
    return {"at": at, "event": "progress", "stage": stage, "done": done, "total": total}


def test_a_report_is_read_on_as_it_grows(tail):
    assert not tail.read()
    append(tail, {"at": 1, "event": "start", "pid": 7}, step(10, 1), step(20, 11))
    assert tail.read()
    assert tail.pid == 7
    assert (tail.progress.done, tail.progress.left) == (11, 19 / 11 * 89)
    assert not tail.read()
    with tail.path.open("a") as file:
        file.write('{"at": 30, "event": "progress", "stage": "training", "do')
    assert not tail.read()
    with tail.path.open("a") as file:
        file.write('ne": 100, "total": 100}\n')
    assert tail.read()
    assert tail.progress.left == 0.0
    append(tail, step(31, 1, 5, "saving"))
    tail.read()
    assert (tail.progress.stage, tail.progress.left) == ("saving", 4.0)


def test_lines_that_are_no_events_are_passed_over(tail):
    lines = [
        *(b"\xff\xfe", b"[]", b"3", b"{}", b'{"at": "x", "event": "end", "code": 0}'),
        *(b'{"at": 1, "event": "end", "code": "0"}', b"[" * 5000),
        *(b'{"at": 1, "event": "progress", "stage": 1, "done": 1, "total": 2}',),
        *(b'{"at": 1, "event": "progress", "stage": "x", "done": 1, "total": 2, "values": []}',),
        *(b'{"at": 1, "event": "read", "code": 0}', b'{"at": NaN, "event": "end", "code": 0}'),
        b'{"at": 1, "event": "progress", "stage": "x", "done": 1, "total": %s}' % (b"9" * 400),
    ]
    tail.path.write_bytes(b"\n".join(lines) + b"\n")
    tail.read()
    assert tail.code is None
    assert tail.progress is None
    assert read_last_events(tail.path, 9) == []


def test_of_a_long_report_the_newest_steps_and_all_else_is_read(tail):
    steps = [step(at, at, 100_000) for at in range(1, 5001)]
    output = {"at": 2500, "event": "output", "kind": "page", "path": "/x"}
    append(tail, *steps[:2500], output, *steps[2500:])
    tail.read()
    assert tail.outputs == {"page": "/x"}
    assert (tail.progress.done, tail.progress.left) == (5000, 95_000.0)


def test_values_are_numbers_of_json_or_their_names(tail):
    values = b'{"loss": NaN, "lr": 1e999, "inside": 2, "outside": "nan", "x": [1], "big": %s}'
    values %= b"9" * 400
    tail.path.write_bytes(
        b'{"at": 1, "event": "progress", "stage": "x", "done": 1, "total": 2, "values": %s}\n'
        % values
    )
    tail.read()
    shown = tail.progress.values
    assert shown.pop("big").startswith("999")
    assert shown == {"loss": "nan", "lr": "inf", "inside": 2.0, "outside": "nan", "x": "[1]"}


def test_a_line_without_end_is_not_waited_for_for_ever(tail):
    tail.path.write_bytes(b"x" * 3_000_000 + b"\n")
    append(tail, {"at": 1, "event": "end", "code": 0})
    tail.read()
    tail.read()
    assert tail.code == 0


def test_last_lines_are_text_whatever_was_printed(tmp_path):
    path = tmp_path / "stdout.log"
    path.write_bytes(b"a" * 100_000 + b"\none\r\n\x1b[31mtwo\x1b[0m\nthr\xffee\n\n")
    assert read_last_lines(path, 3) == ["one", "\\x1b[31mtwo\\x1b[0m", "thr\ufffdee"]
    assert read_last_lines(tmp_path / "none", 3) == []


@pytest.mark.parametrize(
    ("events", "stop", "returncode", "state", "message"),
    [
        ([{"event": "end", "code": 0}], None, 0, "finished", ""),
        ([], None, 0, "failed", "its process ended with exit status 0 without a last word"),
        ([], None, -9, "failed", "its process was killed by signal 9 without a last word"),
        ([], 5.0, -9, "stopped", "ended at once, as asked: what it had not saved is lost"),
        ([{"event": "end", "code": 0}], 5.0, 0, "finished", ""),
        ([{"event": "end", "code": 130}], 5.0, 130, "stopped", ""),
        (
            [{"event": "stopped", "message": "saved"}, {"event": "end", "code": 130}],
            *(None, 130, "stopped", "saved"),
        ),
        (
            [{"event": "error", "message": "a: b; c"}, {"event": "end", "code": 2}],
            *(None, 2, "failed", "a: b; c"),
        ),
        (
            [{"event": "end", "code": 1}],
            *(None, 1, "finished", "it went through, and found fault: see its last lines"),
        ),
        ([{"event": "end", "code": 3}], None, 3, "failed", "it ended with exit status 3"),
    ],
)
def test_an_end_is_judged_by_the_report(tmp_path, events, stop, returncode, state, message):
    job = Job("id", JobSpec("train", "t", ["train"]), tmp_path, 0.0, launching=1.0)
    job.stop_requested = stop
    append(job.report, *({"at": 2.0, **event} for event in events))
    job.report.read()
    ending = judge_end(job, returncode)
    assert (ending.state, ending.message) == (state, message)
    assert ending.attention == (ending.code == 1)
