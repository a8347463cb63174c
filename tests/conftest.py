"""The suite is offline, runs on the CPU with one thread a worker, and is seeded."""

import gc
import os

# Before torch or a hub client is imported: they read these once.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("FRISKET_TEST_GPU", "")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Else MKL's last bit depends on where in memory weights lie, and a loaded copy lies elsewhere: on
# some processors "loads back exactly" could then not be told by what a model answers.
os.environ.setdefault("MKL_CBWR", "AVX2,STRICT")
# torch asks oneDNN, and not its own level, whether bfloat16 may be packed as only AVX-512 can: who
# lowers the one, to see the suite as on an older processor, lowers the other.
if os.environ.get("ATEN_CPU_CAPABILITY") in ("default", "avx2"):
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

import random
import signal

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# A shell that starts the suite in the background has it ignore Ctrl-C, and every process it starts
# would inherit that: then nothing could test what Ctrl-C does.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)
# Derandomised: a red test is red for everybody. No deadline: a busy machine is no failure.
settings.register_profile(
    "frisket",
    derandomize=True,
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("frisket")


@pytest.fixture(autouse=True, scope="module")
def _libraries_are_no_garbage() -> None:
    """What a file of tests finds loaded is not looked through again each time memory is let go.

    Every run, `prepare` and model let go collects garbage: half a second each over what torch and
    diffusers hold, and a few milliseconds over what the tests made.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _licences_are_unsaid(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once a process is said in each test that asks for it."""
    monkeypatch.setattr("frisket.licence._printed_warnings", set())
