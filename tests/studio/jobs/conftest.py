"""A queue with real children, and a pocket training that goes on until it is stopped."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from frisket.studio.jobs.job import Job, write_spec
from frisket.studio.jobs.queue import JobQueue
from frisket.studio.jobs.seal import read_key
from frisket.studio.jobs.spec import JobSpec

CONFIG = """\
[model]
device = "cpu"
[[data]]
clips = "clips"
[lora]
rank = 2
[run]
steps = {steps}
batch = 1
threads = 1
output = "run"
"""


class Heard:
    """What a queue published."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, kind: str, data: dict[str, Any]) -> None:
        assert kind == "job"
        self.events.append(data)

    def states(self, job: Job) -> list[str]:
        states = [data["state"] for data in self.events if data["id"] == job.id]
        return [state for at, state in enumerate(states) if at == 0 or states[at - 1] != state]


def wait_until(true: Callable[[], Any], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def write_training(root: Path, steps: int = 1_000_000) -> JobSpec:
    """Two tiny clips and their config in `root`; the job that trains on them."""
    (root / "clips").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    for index, picture in enumerate(pixels):
        Image.fromarray(picture).save(root / "clips" / f"{index}.png")
    (root / "frisket.toml").write_text(CONFIG.format(steps=steps), encoding="utf-8")
    return JobSpec("train", "Training", ["train", "frisket.toml"], device="cpu")


@pytest.fixture(autouse=True)
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return read_key()


@pytest.fixture
def write_job(root: Path, key: bytes) -> Callable[..., Path]:
    """A function that writes a job as another server would have."""

    def write(spec: JobSpec, name: str = "20260101-000000-aaaaaaaa", **options: Any) -> Path:
        folder = root / ".frisket-studio" / "jobs" / name
        job = Job(name, spec, folder, created=1.0)
        write_spec(job, options.get("root", root), options.get("key", key))
        return folder

    return write


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def jobs(root: Path, heard: Heard) -> Iterator[JobQueue]:
    queue = JobQueue(root / ".frisket-studio", root, heard)
    queue.open()
    yield queue
    for job in queue.close():
        if job.process is not None:
            psutil.Process(job.process.pid).kill()


@pytest.fixture
def training(root: Path) -> JobSpec:
    return write_training(root)


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., None]:
    return wait_until
