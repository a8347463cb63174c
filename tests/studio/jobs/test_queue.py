"""The queue: order, ends, restarts; its children are real commands."""

import json
import os
import shutil
import signal

import psutil
import pytest

from frisket.studio.jobs.queue import JobBusy, JobQueue, UnknownJob
from frisket.studio.jobs.spec import BadJob, JobSpec
from frisket.studio.lock import NotOurs, lock_home

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


@pytest.fixture
def write_running(write_job):
    """A function that writes a job which a server that is dead now had started."""

    def write(pid, started, events=()):
        folder = write_job(JobSpec("train", "Training", ["train"]))
        process = {"launching": 2.0, "pid": pid, "started": started}
        (folder / "process.json").write_text(json.dumps(process))
        lines = "".join(json.dumps({"at": 3.0, **event}) + "\n" for event in events)
        (folder / "events.jsonl").write_text(lines + '{"at": 4.0, "event": "en')
        return folder

    return write


def test_a_number_that_another_process_has_now_is_not_trusted(root, heard, write_running):
    here = psutil.Process()
    write_running(here.pid, here.create_time() - 100)
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


def test_what_ended_while_no_server_was_there_is_told_by_its_report(root, heard, write_running):
    end = {"event": "end", "code": 0}
    write_running(2**22 + 1, 1.0, [{"event": "start", "pid": 2**22 + 1}, end])
    queue = JobQueue(root / ".frisket-studio", root, heard)
    queue.open()
    queue.close()
    (job,) = queue.list_jobs()
    assert job.state == "finished"
    assert job.ending.at == 3.0


def test_a_child_that_no_server_noted_is_known_by_its_report(root, heard, write_running):
    here = psutil.Process()
    folder = write_running(None, None, [{"event": "start", "pid": here.pid}])
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


def test_jobs_that_came_with_a_folder_do_not_run(root, heard, write_job, caplog):
    home = root / ".frisket-studio" / "jobs"
    (home / "notes").mkdir(parents=True)
    (home / "broken").mkdir()
    (home / "broken" / "job.json").write_text('{"spec": {"kind": "x"')
    write_job(SCHEMA, "20260101-000000-bbbbbbbb", key=b"another's" * 4)
    changed = write_job(SCHEMA, "20260101-000000-cccccccc")
    contents = json.loads((changed / "job.json").read_text())
    contents["spec"]["argv"] = ["schema", "-o", "../elsewhere.json"]
    (changed / "job.json").write_text(json.dumps(contents))
    shutil.copytree(write_job(SCHEMA, "x"), home / "20260101-000000-dddddddd")
    shutil.rmtree(home / "x")
    moved = write_job(SCHEMA, "20260101-000000-eeeeeeee", root=root.parent / "old")
    queue = JobQueue(root / ".frisket-studio", root, heard)
    queue.open()
    queue.close()
    assert [(job.id, job.state) for job in queue.list_jobs()] == [(moved.name, "stopped")]
    assert "run it again if it is wanted" in queue.get(moved.name).ending.message
    for name in ("notes", "broken", *(f"20260101-000000-{each * 8}" for each in "bcd")):
        assert f"{name} holds no job of yours" in caplog.text
    assert not (root / "schema.json").exists()
    assert list(root.parent.glob("*.json")) == []


def test_the_key_is_the_users_own(tmp_path, key):
    path = tmp_path / "state" / "frisket" / "studio.key"
    assert path.read_bytes() == key
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(list(path.parent.iterdir())) == 1


@pytest.mark.parametrize("name", [".frisket-studio", ".frisket-studio/lock"])
def test_a_folder_that_leads_elsewhere_is_refused(root, tmp_path, name):
    (tmp_path / "precious").write_text("precious")
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).symlink_to(tmp_path / "precious")
    with pytest.raises(NotOurs, match="a link stands there"), lock_home(root / ".frisket-studio"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


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
