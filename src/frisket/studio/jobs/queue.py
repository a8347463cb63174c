"""The jobs of a folder: which wait, which run, how they are followed to their end."""

import json
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from frisket.disk.atomic import replacing
from frisket.studio.jobs import processes
from frisket.studio.jobs.job import Job, judge_end, read_job, write_spec
from frisket.studio.jobs.processes import ProcessIdentity
from frisket.studio.jobs.seal import read_key
from frisket.studio.jobs.spec import JobSpec, name_device
from frisket.studio.workspace import UnknownId

log = logging.getLogger(__name__)

LIGHT = 4  # jobs of no device at once
TICK = 0.25  # seconds between two looks at the reports: so often the page hears of a job at most
IDLE = 2.0  # the same while nothing runs
RECONCILE = 2.0  # seconds between two looks at the processes of an earlier server
PATIENCE = 10.0  # seconds a child has to begin its report where nobody knows its number
GRACE = 5.0  # seconds between SIGTERM and the kill
LISTED = 200  # ended jobs in a list, the newest

Publish = Callable[[str, dict[str, Any]], Any]


class UnknownJob(UnknownId):
    """A job that is not there (any more)."""


class JobBusy(RuntimeError):
    """What is asked does not fit where the job stands; the message says what does."""


class JobQueue:
    """All jobs of `home` (ROOT/.frisket-studio), whose commands run in `root`.

    `publish` is called with ("job", contents) at every change, from any thread. `open` reads the
    folders and follows what runs; `close` lets the children live.
    """

    def __init__(self, home: Path, root: Path, publish: Publish) -> None:
        """Nothing is read nor started before `open`."""
        self.home, self.root, self.publish = home / "jobs", root, publish
        self._trash = home / "trash" / "jobs"
        self._jobs: dict[str, Job] = {}
        self._waiting: list[str] = []  # ids, in the order they will run
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._reconciled = 0.0

    # From start to end

    def open(self) -> None:
        """Read the folders, take up what still runs, and go on with the queue. CannotWrite."""
        with self._lock:
            self._jobs = {job.id: job for job in _read_jobs(self.home, self.root)}
            waiting = [job for job in self._jobs.values() if job.state == "queued"]
            order = {name: at for at, name in enumerate(self._read_order())}
            waiting.sort(key=lambda job: (order.get(job.id, len(order)), job.created, job.id))
            self._waiting = [job.id for job in waiting]
            for job in self._jobs.values():
                if job.active:
                    job.report.read()
            self._check_processes(time.time())
        self._closing.clear()
        self._thread = threading.Thread(target=self._follow, name="jobs", daemon=True)
        self._thread.start()

    def close(self) -> list[Job]:
        """Follow no longer; the jobs that go on without us."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
            self._thread = None
        with self._lock:
            active = [job for job in self._jobs.values() if job.active]
            for job in active:
                if job.child is not None:
                    # Not ours to bury any more; Python would warn of a child that lives.
                    job.child.returncode, job.child = job.child.poll() or 0, None
            return active

    # What the routes ask for

    def add(self, spec: JobSpec) -> Job:
        """Put a job at the end of its queue; it starts at once where nothing is before it."""
        created = time.time()
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(created))
        name = f"{stamp}-{uuid4().hex[:8]}"
        job = Job(name, spec, self.home / name, created)
        write_spec(job, self.root, read_key())
        with self._lock:
            self._jobs[name] = job
            self._waiting.append(name)
            self._write_order()
            self._publish(job)
            self._start_due()
        self._wake.set()
        return job

    def get(self, name: str) -> Job:
        """A job by its id. UnknownJob."""
        with self._lock:
            if name not in self._jobs:
                raise UnknownJob("that job is not there any more")
            return self._jobs[name]

    def list_jobs(self) -> list[Job]:
        """Those that run, those that wait in their order, then what ended, the newest first."""
        with self._lock:
            running = [job for job in self._jobs.values() if job.active]
            waiting = [self._jobs[name] for name in self._waiting]
            ended = [job for job in self._jobs.values() if job.ending is not None]
        running.sort(key=lambda job: job.launching or 0.0)
        ended.sort(key=lambda job: job.ending.at if job.ending else 0.0, reverse=True)
        return [*running, *waiting, *ended[:LISTED]]

    def find_running(self, device: str) -> list[Job]:
        """The jobs at work on a device now."""
        device_name = name_device(device)
        with self._lock:
            jobs = self._jobs.values()
            return [job for job in jobs if job.active and job.spec.device == device_name]

    def stop(self, name: str, *, hard: bool = False) -> Job:
        """Stop a job as Ctrl-C does; `hard`: at once, without saving. One that waits never starts.

        JobBusy where it has ended.
        """
        with self._lock:
            job = self.get(name)
            if job.ending is not None:
                raise JobBusy("that job has ended already")
            now, again = time.time(), job.stop_requested is not None
            job.stop_requested = job.stop_requested or now
            if job.launching is None:
                self._waiting.remove(name)
                self._write_order()
                self._finish(job, None)
                return job
            if hard:
                job.kill_at = now + GRACE
            # A second SIGINT would end the command without saving: that is what `hard` is for.
            if job.process is not None and (hard or not again):
                number = signal.SIGTERM if hard else signal.SIGINT
                processes.send_signal(job.process, number)
            job.note("stop.json", {"at": job.stop_requested})
            self._publish(job)
        self._wake.set()
        return job

    def run_again(self, name: str) -> Job:
        """The same command once more, as a new job. JobBusy where the old one has not ended."""
        job = self.get(name)
        if job.ending is None:
            raise JobBusy("that job has not ended yet: stop it first, or wait")
        return self.add(replace(job.spec, about={**job.spec.about, "again": job.id}))

    def remove(self, name: str) -> None:
        """Move an ended job to the trash. JobBusy where it has not ended; CannotWrite."""
        with self._lock:
            job = self.get(name)
            if job.ending is None:
                raise JobBusy("that job has not ended yet: stop it first, or wait")
            self._trash.mkdir(parents=True, exist_ok=True)
            if job.folder.exists():
                job.folder.rename(self._trash / f"{name}-{uuid4().hex[:4]}")
            del self._jobs[name]
        self.publish("job", {"id": name, "removed": True})

    def reorder(self, names: Sequence[str]) -> list[str]:
        """Let waiting jobs run in this order; those not named come behind, in theirs.

        Those that have started meanwhile are no longer in the answer, which is the order it came
        to. UnknownJob for an id that is none.
        """
        with self._lock:
            for name in names:
                self.get(name)
            first = [name for name in dict.fromkeys(names) if name in self._waiting]
            self._waiting = [*first, *(name for name in self._waiting if name not in first)]
            self._write_order()
            self._publish_waiting()
            return list(self._waiting)

    def render(self, job: Job) -> dict[str, Any]:
        """A job for the page, with its place in the queue."""
        with self._lock:
            if job.id not in self._waiting:
                return job.render()
            before = self._find_before(job)
            return job.render(before.id if before else "", self._waiting.index(job.id))

    # How it goes on

    def _follow(self) -> None:
        while not self._closing.is_set():
            try:
                busy = self._follow_once()
            except Exception:  # one fault must not leave all jobs without anybody who looks
                log.exception("studio: the jobs could not be looked at; it is tried again")
                busy = False
            self._wake.wait(TICK if busy else IDLE)
            self._wake.clear()
            if busy:  # calls that wake us do not make the page hear more often
                self._closing.wait(TICK / 5)

    def _follow_once(self) -> bool:
        """Look at what runs; whether anything does."""
        with self._lock:
            now = time.time()
            active = [job for job in self._jobs.values() if job.active]
            for job in active:
                if job.report.read():
                    self._publish(job)
            self._check_processes(now)
            self._start_due()
            return any(job.active for job in self._jobs.values())

    def _check_processes(self, now: float) -> None:
        """End the jobs whose processes are gone, and kill those that a hard stop did not end."""
        inherited = now - self._reconciled >= RECONCILE
        if inherited:
            self._reconciled = now
        for job in [job for job in self._jobs.values() if job.active]:
            if job.kill_at is not None and job.process and now >= job.kill_at:
                processes.send_signal(job.process, signal.SIGKILL)
            if job.child is not None:
                code = job.child.poll()
                if code is not None:
                    self._finish(job, code)
            elif inherited and not self._is_running(job, now):
                self._finish(job, None)

    def _is_running(self, job: Job, now: float) -> bool:
        """Whether a child of an earlier server lives."""
        if job.process is None:
            job.process = _find_process(job)
            if job.process is not None and job.stop_requested is not None:
                processes.send_signal(job.process, signal.SIGINT)
        if job.process is None:
            # That server was killed between the start of the child and its note of it.
            began = job.launching or job.created
            return job.report.pid is None and now - began < PATIENCE
        return processes.is_alive(job.process)

    def _finish(self, job: Job, code: int | None) -> None:
        job.report.read()
        job.ending = judge_end(job, code)
        if job.launching is None:
            job.ending.message = "taken out of the queue before it began"
        job.child = None
        job.note_ending()
        self._publish(job)
        self._publish_waiting()

    def _start_due(self) -> None:
        """Start what nothing is before."""
        for name in list(self._waiting):
            job = self._jobs[name]
            if self._find_before(job) is None:
                self._waiting.remove(name)
                self._write_order()
                self._start(job)

    def _find_before(self, job: Job) -> Job | None:
        """The job that has to end (or begin) before this one begins."""
        device = job.spec.device
        active = [other for other in self._jobs.values() if other.active]
        rivals = [other for other in active if other.spec.device == device]
        if len(rivals) >= (LIGHT if device is None else 1):
            return rivals[0]
        for name in self._waiting:
            if name == job.id:
                return None
            if self._jobs[name].spec.device == device:
                return self._jobs[name]
        return None

    def _start(self, job: Job) -> None:
        job.launching = time.time()
        # Noted before as well as after: a server that is killed in between leaves a trace.
        job.note("process.json", {"launching": job.launching})
        try:
            job.child = processes.start_command(
                job.spec.argv, job.report.path, job.print, folder=self.root
            )
        except OSError as error:
            job.report.error, job.report.code = f"it could not be started: {error}", 2
            self._finish(job, None)
            return
        job.process = processes.identify(job.child.pid)
        if job.process is not None:
            job.note("process.json", {"launching": job.launching, **asdict(job.process)})
        self._publish(job)
        self._publish_waiting()

    def _publish(self, job: Job) -> None:
        self.publish("job", self.render(job))

    def _publish_waiting(self) -> None:
        for name in self._waiting:
            self._publish(self._jobs[name])

    def _write_order(self) -> None:
        try:
            with replacing(self.home / "order.json") as draft:
                draft.write_text(json.dumps(self._waiting), encoding="utf-8")
        except OSError as error:  # the order is a wish; stopping a job must not fail for it
            log.warning("studio: %s", error)

    def _read_order(self) -> list[str]:
        try:
            names = json.loads((self.home / "order.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _read_jobs(home: Path, root: Path) -> Iterator[Job]:
    """The jobs of the folders, oldest first; what is none of ours is named and left alone."""
    if not home.is_dir():
        return
    key = read_key()
    for folder in sorted(path for path in home.iterdir() if path.is_dir()):
        job = read_job(folder, root, key)
        if job is None:
            log.warning(
                "studio: %s holds no job of yours (it came with the folder, or is damaged); it is"
                " left alone, and nothing of it runs",
                folder,
            )
        else:
            yield job


def _find_process(job: Job) -> ProcessIdentity | None:
    """The process that a report says is doing the job, if it still does."""
    report, began = job.report, job.launching or job.created
    if report.pid is None or report.started is None:
        return None
    identity = processes.identify(report.pid)
    if identity is None or not began - 2 <= identity.started <= report.started + 2:
        return None
    return identity
