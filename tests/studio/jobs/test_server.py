"""A real `frisket studio`: one a folder, and killed while a job runs."""

import contextlib
import http.cookiejar
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from frisket.studio.jobs.processes import ProcessIdentity, is_alive


class Browser:
    """A `frisket studio` on a folder and somebody who has opened its address."""

    def __init__(self, folder: Path, started: list) -> None:
        command = [sys.executable, "-m", "frisket.cli", "studio", str(folder), "--no-browser"]
        self.process = subprocess.Popen(
            [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(self.process)
        self.address = self.process.stdout.readline().removeprefix("Open ").strip()
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self.opener = urllib.request.build_opener(jar)
        self.opener.open(self.address).read()

    def ask(self, path: str, method: str = "GET", body: object = None):
        request = urllib.request.Request(
            self.address.partition("/start")[0] + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Frisket": "1", "Content-Type": "application/json"},
        )
        return json.load(self.opener.open(request, timeout=20))

    def job(self):
        return self.ask("/api/jobs")["jobs"][0]


@pytest.fixture
def open_studio(root):
    started = []
    yield lambda folder: Browser(folder, started)
    for note in root.glob(".frisket-studio/jobs/*/process.json"):  # they outlive the servers
        process = json.loads(note.read_text())
        if is_alive(ProcessIdentity(process["pid"], process["started"])):
            psutil.Process(process["pid"]).kill()
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_a_job_outlives_a_killed_server_and_the_next_one_follows_it(
    root, training, write_job, open_studio, wait_until
):
    write_job(training)  # it waits: a server begins it as it starts
    first = open_studio(root)
    wait_until(lambda: first.job()["state"] == "running")
    pid = first.job()["pid"]
    second = subprocess.run(
        [sys.executable, "-m", "frisket.cli", "studio", str(root), "--no-browser", "--port", "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 2
    assert f"at {first.address.partition('/start')[0]}; the" in second.stderr
    assert "token=" not in second.stdout + second.stderr
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()

    later = open_studio(root)
    wait_until(lambda: (later.job()["progress"] or {}).get("stage") == "training")
    assert later.job()["state"] == "running"
    assert later.job()["pid"] == pid
    later.process.send_signal(signal.SIGINT)
    output, errors = later.process.communicate(timeout=20)
    assert later.process.returncode == 0
    assert f"still running: Training (process {pid})" in output
    assert errors == ""

    last = open_studio(root)
    before = last.job()["progress"]["done"]
    wait_until(lambda: last.job()["progress"]["done"] > before)
    assert last.job()["progress"]["left"] > 0
    stop = f"/api/jobs/{last.job()['id']}/stop"
    assert last.ask(stop, "POST", {})["state"] == "stopping"
    with contextlib.suppress(urllib.error.HTTPError):  # 409 where it has ended by now
        last.ask(stop, "POST", {})  # asked twice is not stopped twice: that would not save
    wait_until(lambda: last.job()["ended"])
    assert last.job()["state"] == "stopped"
    assert last.job()["message"].startswith("stopped and saved after step ")
    assert last.job()["outputs"]["run"] == str(root / "run")
    assert list((root / "run" / "checkpoints").iterdir())
