"""The queue: order, ends, restarts; its children are real commands."""

import json
import os
import signal

import psutil
import pytest

from frisket.studio.jobs.queue import JobBusy, JobQueue, UnknownJob
from frisket.studio.jobs.spec import BadJob, JobSpec

SCHEMA = JobSpec("schema", "Write the schema", ["schema", "-o", "schema.json"])


def test_a_job_is_a_folder_and_its_end_is_its_reports(jobs, heard, root, wait_until):
    job = jobs.add(SCHEMA)
    wait_until(lambda: job.ending)
    assert heard.states(job) == ["queued", "running", "finished"]
    assert (root / "schema.json").is_file()
    assert json.loads((job.folder / "job.json").read_text())["spec"]["argv"] == list(SCHEMA.argv)
    events = [json.loads(line) for line in job.report.path.read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "end"]
    shown = jobs.render(job)
    assert shown["command"] == "frisket schema -o schema.json"
    assert shown["code"] == 0
    assert shown["ended"] >= shown["started"] >= shown["created"]
    assert shown["pid"] is None


def test_a_refusal_is_the_commands_own_words(jobs, wait_until):
    job = jobs.add(JobSpec("train", "Training", ["train", "none.toml"]))
    wait_until(lambda: job.ending)
    assert job.state == "failed"
    assert job.ending.message.startswith("none.toml does not exist; `frisket init FOLDER")
    assert jobs.list_jobs() == [job]
    again = jobs.run_again(job.id)
    assert again.spec.argv == job.spec.argv
    assert again.spec.about == {"again": job.id}
    wait_until(lambda: again.ending)
    jobs.remove(job.id)
    assert jobs.list_jobs() == [again]
    with pytest.raises(UnknownJob):
        jobs.get(job.id)
    assert not job.folder.exists()
    assert list((job.folder.parents[1] / "trash" / "jobs").iterdir())


def test_one_runs_on_a_device_and_the_others_wait_in_an_order_of_ours(
    jobs, heard, training, wait_until
):
    first = jobs.add(training)
    second, third = (
        jobs.add(JobSpec("schema", title, SCHEMA.argv, device="cpu")) for title in "ab"
    )
    other = jobs.add(JobSpec("schema", "c", SCHEMA.argv, device="cuda"))
    light = jobs.add(SCHEMA)
    assert [job.state for job in (first, second, third)] == ["running", "queued", "queued"]
    assert jobs.render(second)["waits_for"] == first.id
    assert jobs.find_running("cpu") == [first]
    wait_until(lambda: other.ending and light.ending)
    assert jobs.reorder([third.id]) == [third.id, second.id]
    assert [jobs.render(job)["position"] for job in (second, third)] == [1, 0]
    with pytest.raises(JobBusy, match="not ended"):
        jobs.remove(first.id)
    jobs.stop(second.id)
    assert second.state == "stopped"
    assert second.launching is None
    wait_until(lambda: first.report.pid)  # it is one of ours by now, and knows Ctrl-C
    jobs.stop(first.id, hard=True)
    wait_until(lambda: third.ending)
    assert first.state == "stopped"
    assert third.state == "finished"
    assert heard.states(second) == ["queued", "stopped"]
    with pytest.raises(JobBusy, match="ended already"):
        jobs.stop(first.id)


def test_stopping_a_training_saves_it_and_another_server_goes_on(
    jobs, heard, root, training, wait_until
):
    job = jobs.add(training)
    wait_until(lambda: job.report.progress and job.report.progress.stage == "training")
    going_on = jobs.close()  # as if the server had been killed: the child knows nothing of it
    assert going_on == [job]
    later = JobQueue(root / ".frisket-studio", root, heard)
    later.open()
    try:
        same = later.get(job.id)
        assert same.state == "running"
        assert same.process == job.process
        assert same.child is None
        before = same.report.progress.done
        wait_until(lambda: same.report.progress.done > before)
        assert later.render(same)["progress"]["left"] > 0
        assert later.stop(job.id).state == "stopping"
        later.stop(job.id)  # asked twice is not stopped twice: that would not save
        wait_until(lambda: same.ending)
    finally:
        later.close()
    assert same.state == "stopped"
    assert same.ending.message.startswith("stopped and saved after step ")
    assert later.render(same)["outputs"]["run"] == str(root / "run")
    assert list((root / "run" / "checkpoints").iterdir())


def test_a_killed_child_failed_with_its_last_lines(jobs, training, wait_until):
    job = jobs.add(training)
    wait_until(lambda: job.report.pid)
    with job.print.open("a") as printed:
        printed.write("its last line\n")
    os.kill(job.process.pid, signal.SIGKILL)
    wait_until(lambda: job.ending)
    assert job.state == "failed"
    assert "killed by signal 9 without a last word" in job.ending.message
    assert "want of memory" in job.ending.fix
    assert job.ending.lines[-1] == "its last line"


def write_running(root, pid, started, events=()):
    """A job that a server which is dead now had started."""
    folder = root / ".frisket-studio" / "jobs" / "20260101-000000-aaaaaaaa"
    folder.mkdir(parents=True)
    spec = {"kind": "train", "title": "Training", "argv": ["train"]}
    (folder / "job.json").write_text(json.dumps({"created": 1.0, "spec": spec}))
    process = {"launching": 2.0, "pid": pid, "started": started}
    (folder / "process.json").write_text(json.dumps(process))
    lines = "".join(json.dumps({"at": 3.0, **event}) + "\n" for event in events)
    (folder / "events.jsonl").write_text(lines + '{"at": 4.0, "event": "en')
    return folder


def test_a_number_that_another_process_has_now_is_not_trusted(root, heard):
    here = psutil.Process()
    write_running(root, here.pid, here.create_time() - 100)
    queue = JobQueue(root / ".frisket-studio", root, heard)
    queue.open()
    (job,) = queue.list_jobs()
    queue.close()
    assert job.state == "failed"
    assert job.ending.message == "its process is gone without a last word"
    assert "machine was restarted" in job.ending.fix
    again = JobQueue(root / ".frisket-studio", root, heard)
    again.open()
    again.close()
    assert again.get(job.id).ending == job.ending


def test_what_ended_while_no_server_was_there_is_told_by_its_report(root, heard):
    end = {"event": "end", "code": 0}
    write_running(root, 2**22 + 1, 1.0, [{"event": "start", "pid": 2**22 + 1}, end])
    queue = JobQueue(root / ".frisket-studio", root, heard)
    queue.open()
    queue.close()
    (job,) = queue.list_jobs()
    assert job.state == "finished"
    assert job.ending.at == 3.0


def test_a_child_that_no_server_noted_is_known_by_its_report(root, heard):
    here = psutil.Process()
    folder = write_running(root, None, None, [{"event": "start", "pid": here.pid}])
    began = here.create_time() - 1
    (folder / "process.json").write_text(json.dumps({"launching": began}))
    start = {"at": began + 2, "event": "start", "pid": here.pid}
    (folder / "events.jsonl").write_text(json.dumps(start) + "\n")
    queue = JobQueue(root / ".frisket-studio", root, heard)
    queue.open()
    queue.close()
    (job,) = queue.list_jobs()
    assert job.state == "running"
    assert job.process.pid == here.pid


def test_a_folder_that_is_no_job_is_named_and_left_alone(root, heard, caplog):
    home = root / ".frisket-studio" / "jobs"
    (home / "notes").mkdir(parents=True)
    (home / "broken").mkdir()
    (home / "broken" / "job.json").write_text('{"spec": {"kind": "x"')
    queue = JobQueue(root / ".frisket-studio", root, heard)
    queue.open()
    queue.close()
    assert queue.list_jobs() == []
    assert "broken holds no job that can be read" in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"argv": []}, "give the words"),
        ({"argv": "train x"}, "give the words"),
        ({"argv": ["train", "a\0b"]}, "NUL"),
        ({"argv": ["studio", "."]}, "is no job"),
        ({"argv": ["--version"]}, "is no job"),
        ({"kind": "a b"}, "small letters"),
        ({"device": "cuda:x"}, "use cpu"),
    ],
)
def test_what_cannot_be_a_job_is_refused(fields, message):
    with pytest.raises(BadJob, match=message):
        JobSpec(**{"kind": "train", "title": "", "argv": ["train"], **fields})
