"""Checkpoints of runs that train all weights: these lie in a file of their own."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from frisket.training.checkpoint import WEIGHTS, CheckpointError, Checkpoints, read

STATE = {"optimizer": {"m": torch.ones(3)}, "done": 7}


def test_weights_apart_come_back_with_the_rest(tmp_path: Path) -> None:
    weights = {"conv.weight": torch.randn(4, 3).t(), "conv.bias": torch.randn(3)}
    folder = Checkpoints(tmp_path).save(7, dict(STATE), {"run": {}}, weights=weights)
    assert load_file(folder / WEIGHTS).keys() == weights.keys()
    state, manifest = read(folder)
    assert manifest["step"] == 7
    assert all(torch.equal(state["adapter"][name], value) for name, value in weights.items())
    assert torch.equal(state["optimizer"]["m"], torch.ones(3))


@pytest.mark.parametrize("harm", ["gone", "short"])
def test_a_checkpoint_without_its_weights_is_named(tmp_path: Path, harm: str) -> None:
    weights = {"weight": torch.randn(64)}
    folder = Checkpoints(tmp_path).save(7, dict(STATE), {}, weights=weights)
    file = folder / WEIGHTS
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(CheckpointError, match="step-00000007 cannot be read"):
        read(folder)
