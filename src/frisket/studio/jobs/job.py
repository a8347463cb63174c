"""One job: its folder, its state, and what the page is shown of it."""

import contextlib
import json
import logging
import shlex
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from frisket.disk.atomic import replacing
from frisket.studio.jobs.processes import ProcessIdentity
from frisket.studio.jobs.report_tail import JobProgress, ReportTail, read_last_lines
from frisket.studio.jobs.seal import is_sealed, make_seal
from frisket.studio.jobs.spec import ENDED, JobSpec, JobState
from frisket.studio.jobs.text import clean_line, clean_text

log = logging.getLogger(__name__)

LARGEST = 1 << 20  # bytes of a file of a job, but for its report and print
LINES = 12  # last lines of the print that stand for an error nobody worded


@dataclass(slots=True)
class Ending:
    """How a job ended: `code` None where nobody saw it, `attention` where it found fault."""

    state: JobState
    at: float
    code: int | None = None
    message: str = ""
    fix: str = ""
    attention: bool = False
    lines: list[str] = field(default_factory=list)  # what it printed last, where no error is worded


@dataclass(slots=True)
class Job:
    """A job and what is known of it now; made by JobQueue alone."""

    id: str
    spec: JobSpec
    folder: Path
    created: float
    launching: float | None = None
    process: ProcessIdentity | None = None
    stop_requested: float | None = None
    kill_at: float | None = None  # when what SIGTERM did not end is killed
    ending: Ending | None = None
    child: "subprocess.Popen[bytes] | None" = None  # of this server; None after a restart
    report: ReportTail = field(init=False)

    def __post_init__(self) -> None:
        self.report = ReportTail(self.folder / "events.jsonl")

    @property
    def state(self) -> JobState:
        """Where it stands: how it ended, or what it waits for or does now."""
        if self.ending is not None:
            return self.ending.state
        if self.launching is None:
            return "queued"
        return "stopping" if self.stop_requested is not None else "running"

    @property
    def active(self) -> bool:
        """Whether a child of it is out."""
        return self.state in ("running", "stopping")

    @property
    def print(self) -> Path:
        """What the child printed, on both streams."""
        return self.folder / "stdout.log"

    def write(self, name: str, contents: Mapping[str, Any]) -> None:
        """Write one of its files whole or not at all. CannotWrite."""
        with replacing(self.folder / name) as draft:
            draft.write_text(json.dumps(contents, indent=1), encoding="utf-8")

    def note(self, name: str, contents: Mapping[str, Any]) -> None:
        """As `write`, where the work must go on though the disk is full: that is logged."""
        try:
            self.write(name, contents)
        except OSError as error:
            log.warning("studio: %s", error)

    def note_ending(self) -> None:
        """Write how it ended, with what the page shows of it then: no report is read for that."""
        if self.ending is not None:
            contents = {
                "ending": asdict(self.ending),
                "outputs": self.report.outputs,
                "progress": asdict(self.report.progress) if self.report.progress else None,
            }
            self.note("ended.json", contents)

    def render(self, waits_for: str = "", position: int | None = None) -> dict[str, Any]:
        """The job for the page; `position` is its place among those that wait, from 0."""
        ending, report = self.ending, self.report
        began = report.started or self.launching
        command = shlex.join(["frisket", *map(clean_line, self.spec.argv)])
        outputs = {**self.spec.outputs, **report.outputs}
        return {
            "id": self.id,
            "kind": self.spec.kind,
            "title": clean_line(self.spec.title),
            "command": command,
            "device": self.spec.device,
            "about": clean_tree(self.spec.about),
            "state": self.state,
            "now": time.time(),
            "created": self.created,
            "started": began,
            "ended": ending.at if ending else None,
            "pid": self.process.pid if self.process and self.active else None,
            "position": position,
            "waits_for": waits_for,
            "progress": _render_progress(report),
            "log": report.message,
            "outputs": {clean_text(kind): clean_line(path) for kind, path in outputs.items()},
            "code": ending.code if ending else None,
            "message": ending.message if ending else "",
            "fix": ending.fix if ending else "",
            "attention": bool(ending and ending.attention),
            "lines": ending.lines if ending else [],
        }


def _render_progress(report: ReportTail) -> dict[str, Any] | None:
    return asdict(report.progress) if report.progress else None


def clean_tree(value: Any) -> Any:
    """JSON whose texts UTF-8 can hold."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, Mapping):
        return {clean_text(str(key)): clean_tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_tree(item) for item in value]
    return value


def judge_end(job: Job, returncode: int | None) -> Ending:
    """How a job whose process is gone ended, by its report; `returncode` where its parent is us.

    The report is believed and an exit status alone is not: a child without a last word failed,
    whatever it returned. Exit status 1 without an error is a command that went through and found
    fault (a clip that failed, a missing package): finished, with `attention`.
    """
    report = job.report
    if report.code is None:
        return _judge_silence(job, returncode)
    at = report.ended or time.time()
    if report.code == 0:
        return Ending("finished", at, 0)
    if report.stopped or (job.stop_requested is not None and not report.error):
        return Ending("stopped", at, report.code, clean_line(report.stopped))
    lines = read_last_lines(job.print, LINES)
    if report.error:
        return Ending("failed", at, report.code, clean_line(report.error), report.fix, lines=lines)
    if report.code == 1:
        message = "it went through, and found fault: see its last lines"
        return Ending("finished", at, 1, message, attention=True, lines=lines)
    message = f"it ended with exit status {report.code}"
    return Ending("failed", at, report.code, message, lines=lines)


def _judge_silence(job: Job, returncode: int | None) -> Ending:
    lines, at = read_last_lines(job.print, LINES), time.time()
    if job.stop_requested is not None:
        message = "ended at once, as asked: what it had not saved is lost"
        return Ending("stopped", at, returncode, message, lines=lines)
    if returncode is not None and returncode < 0:
        killer = f"was killed by signal {-returncode}"
        fix = "signal 9 is often the system's, for want of memory" if returncode == -9 else ""
    elif returncode is not None:
        killer, fix = f"ended with exit status {returncode}", ""
    else:
        killer, fix = "is gone", "it was killed, or the machine was restarted"
    message = f"its process {killer} without a last word"
    return Ending("failed", at, returncode, message, fix, lines=lines)


def read_job(folder: Path, root: Path, key: bytes) -> Job | None:
    """A job of its folder; None for a folder that holds none of this user's.

    What waited when `root` lay elsewhere (a copy, another's disk) does not run by itself here.
    """
    contents = _read_json(folder / "job.json")
    try:
        spec = JobSpec(**contents["spec"])
        job = Job(folder.name, spec, folder, float(contents["created"]))
        if not is_sealed(key, _name_sealed(job, contents["root"]), contents["seal"]):
            return None
    except (KeyError, TypeError, ValueError):
        return None
    process = _read_json(folder / "process.json")
    if process:
        job.launching = float(process.get("launching", job.created))
        if process.get("pid"):
            job.process = ProcessIdentity(int(process["pid"]), float(process["started"]))
    stop = _read_json(folder / "stop.json")
    job.stop_requested = float(stop["at"]) if stop else None
    _take_ending(job, _read_json(folder / "ended.json"))
    if job.state == "queued" and contents["root"] != str(root):
        message = f"it waited when this folder was {contents['root']}; run it again if it is wanted"
        job.ending = Ending("stopped", job.created, message=clean_line(message))
    return job


def _take_ending(job: Job, contents: Mapping[str, Any]) -> None:
    """What `note_ending` wrote; of another version it is judged anew, by the report."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        ending = Ending(**contents["ending"])
        ending.at = float(ending.at)
        job.report.outputs = {**contents["outputs"]}
        progress = contents["progress"]
        job.report.progress = JobProgress(**progress) if progress else None
        job.ending = ending if ending.state in ENDED else None


def write_spec(job: Job, root: Path, key: bytes) -> None:
    """Write what was asked for, sealed. CannotWrite."""
    contents = {"created": job.created, "root": str(root), "spec": asdict(job.spec)}
    seal = make_seal(key, _name_sealed(job, str(root)))
    job.write("job.json", {**contents, "seal": seal})


def _name_sealed(job: Job, root: str) -> list[Any]:
    """What a seal is of."""
    return [job.id, job.created, root, asdict(job.spec)]


def _read_json(path: Path) -> dict[str, Any]:
    """A file of a job's folder; empty where there is none, or none that can be read."""
    try:
        if path.stat().st_size > LARGEST:
            return {}
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return contents if isinstance(contents, dict) else {}
