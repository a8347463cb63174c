"""Training as a process of its own: Ctrl-C, and two processes beside each other."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from frisket.families.models.pocket import FAMILY
from frisket.recipes import toy

COMMAND = [sys.executable, "-c", "from frisket.cli import main; main()"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A config over a tiny random pocket model."""
    FAMILY.save(FAMILY.tiny("image"), tmp_path / "model")
    toy.make_clips(tmp_path, seed=0)
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


def test_ctrl_c_saves_and_the_next_start_goes_on(project: Path) -> None:
    command = [*COMMAND, "train", str(project), "--set", "run.steps=100000"]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while len(lines(project)) < 2 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "stopped and saved after step" in said
    done = max(line["step"] for line in lines(project))
    (checkpoint,) = (project.parent / "run" / "checkpoints").iterdir()
    assert checkpoint.name == f"step-{int(done):08d}"


@pytest.mark.slow
def test_two_processes_train_one_adapter(project: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"),
        *("-m", "frisket.cli", "train", str(project)),
        *("--set", "run.steps=4", "--set", 'losses.normalise="global"'),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, timeout=300, env=environment)
    assert [line["step"] for line in lines(project)] == [1, 2, 3, 4]
    assert (project.parent / "run" / "lora.safetensors").is_file()
