"""Out of memory is a sentence, not a traceback."""

import pytest
import torch

from frisket.training.memory.out_of_memory import NoRoom, room_for


def test_out_of_memory_names_the_stage_and_what_helps() -> None:
    said = r"generate: .*no memory left.*memory\.checkpointing"
    with pytest.raises(NoRoom, match=said), room_for("generate"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shape"), room_for("train"):
        raise RuntimeError("shape mismatch")
