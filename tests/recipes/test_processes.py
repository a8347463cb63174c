"""Training as a process of its own: Ctrl-C, and two processes beside each other."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from frisket.families.models.pocket.family import FAMILY
from frisket.runs import quickstart_data

# A suite that was started in the background ignores SIGINT, and so would its children.
COMMAND = [
    "env",
    "--default-signal",
    sys.executable,
    "-c",
    "from frisket.cli.app import main; main()",
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A config over a tiny random pocket model."""
    FAMILY.save(FAMILY.tiny("image"), tmp_path / "model")
    quickstart_data.make_clips(tmp_path, seed=0)
    (tmp_path / "frisket.toml").write_text(
        '[model]\nsource = "model"\ndevice = "cpu"\n'
        '[[data]]\nclips = "clips"\nmasks = "masks"\n'
        "[lora]\nrank = 2\n[losses]\nprior = 0.3\n"
        '[run]\noutput = "run"\ncache = "cache"\nthreads = 1\nbatch = 2\nsave_every = 0\n'
    )
    return tmp_path / "frisket.toml"


def lines(project: Path) -> list[dict[str, float]]:
    path = project.parent / "run" / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_the_next_start_goes_on(project: Path, number: signal.Signals) -> None:
    command = [*COMMAND, "train", str(project), "--set", "run.steps=100000"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(lines(project)) < 2 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert "stopped and saved after step" in said
    done = max(line["step"] for line in lines(project))
    (checkpoint,) = (project.parent / "run" / "checkpoints").iterdir()
    assert checkpoint.name == f"step-{int(done):08d}"


@pytest.mark.slow  # tests/training/test_lock.py has the lock alone
def test_a_second_run_on_the_same_folder_is_refused_and_harms_nothing(project: Path) -> None:
    command = [*COMMAND, "train", str(project), "--set", "run.steps=100000"]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(lines(project)) < 2 and first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert f"is being written by process {first.pid}" in second.stderr
        assert first.poll() is None
    finally:
        first.kill()
        first.wait()
    subprocess.run([*COMMAND, "train", str(project), "--set", "run.steps=3"], check=True)
    assert [line["step"] for line in lines(project)][-1] == 3


def launched(project: Path, *more: str, count: int = 2, **environment: str) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count)),
        *("-m", "frisket.cli.app", "train", str(project)),
        *(word for setting in more for word in ("--set", setting)),
    ]
    everything = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    subprocess.run(command, check=True, timeout=300, env=everything)


@pytest.mark.slow
def test_two_processes_train_one_adapter(project: Path) -> None:
    launched(project, "run.steps=4", 'losses.normalise="global"')
    assert [line["step"] for line in lines(project)] == [1, 2, 3, 4]
    assert (project.parent / "run" / "lora.safetensors").is_file()


@pytest.mark.slow
def test_more_processes_go_on_with_a_run_of_one(project: Path) -> None:
    subprocess.run([*COMMAND, "train", str(project), "--set", "run.steps=3"], check=True)
    launched(project, "run.steps=5", "validation.every=1")
    assert [line["step"] for line in lines(project)] == [1, 2, 3, 4, 5]
    state = torch.load(
        project.parent / "run" / "checkpoints" / "step-00000005" / "state.pt", weights_only=True
    )
    assert state["rows"] == 3 + 2 * 2


SLOW = """
import datetime, sys, time
from accelerate.state import PartialState
PartialState(cpu=True, timeout=datetime.timedelta(seconds=5))  # in place of NCCL's ten minutes
import frisket.runs.checkpointing as hooks
import frisket.recipes.train as recipe
save, make = hooks.save_adapter, recipe.prepare
def slowly(*given, **more):
    time.sleep(8)
    return save(*given, **more)
def prepare(*given, **more):
    time.sleep(8 * PartialState().is_main_process)
    return make(*given, **more)
hooks.save_adapter, recipe.prepare = slowly, prepare
from frisket.cli.app import main
sys.argv = ["frisket", *sys.argv[1:]]
main()
"""


@pytest.mark.slow
def test_rank_0_may_take_longer_than_a_collective_waits(project: Path) -> None:
    """Preparing and saving; the others hold in a wait of their own."""
    script = project.parent / "slowly.py"
    script.write_text(SLOW)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(script)),
        *("train", str(project), "--set", "run.steps=2", "--set", "run.save_every=1"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, timeout=300, env=environment)
    assert [line["step"] for line in lines(project)] == [1, 2]
