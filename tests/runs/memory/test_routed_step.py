"""Predicted memory and operations of routed steps, and what is told of them before a run."""

import importlib.util
from pathlib import Path

import pytest

from frisket.config.tree import Config
from frisket.families.base import FAMILIES
from frisket.losses import base
from frisket.runs.memory.estimate import predict

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "memory_prediction.py"
WITHIN = 0.10
HALF = 0.625  # the mask is half of the picture, and a quarter of the rest goes along
ROUTED = {
    "background": 0.25,
    "start": 0,
    "end": 2,
    "dilate": 0,
    "multiple": 1,
    "full_step_probability": 0.0,
    "full_from": 1.0,
}


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("memory_prediction", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def whole_maps(monkeypatch):
    """The loss works as on an accelerator, not in slabs that fit a CPU's cache."""
    monkeypatch.setattr(base, "CACHE_ELEMENTS", 1 << 40)


@pytest.mark.usefixtures("whole_maps")
@pytest.mark.parametrize("case", ["plain", "checkpointing", "batch 2, prior"])
def test_a_routed_step_takes_what_is_predicted(case, benchmark, tmp_path):
    shelf = FAMILIES.load("wan")
    shelf.save(shelf.tiny("2.1-t2v-1.3b"), tmp_path)
    config = benchmark.config_for("wan", "2.1-t2v-1.3b", case, tmp_path)
    routed = Config.model_validate({**config.model_dump(), "routing": ROUTED})
    predicted = predict(routed, prepare=False, kept=HALF).training
    assert predicted == pytest.approx(benchmark.alive(routed), rel=WITHIN)
    if case != "checkpointing":  # what it keeps of a block is little either way
        assert predicted < 0.9 * predict(routed, prepare=False).training
