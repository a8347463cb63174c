"""Out of device memory, in one sentence with the switches that help."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

MIB = 1 << 20


class NoRoom(RuntimeError):
    """The device's memory does not hold what was asked for; the message says what to change."""


@contextmanager
def room_for(stage: str) -> Iterator[None]:
    """Within the block, torch's out-of-memory error becomes NoRoom, which names `stage`."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise NoRoom(
            f"{stage}: the device has no memory left{_spread()}. What helps, cheapest first:"
            " memory.checkpointing = true, memory.tile_vae = true, a smaller run.batch or"
            ' resolution, memory.quantise = "nf4", memory.swap_blocks; `frisket doctor CONFIG` says'
            " what each saves"
        ) from error


def _spread() -> str:
    """What is held in pieces too small to use, where that is much."""
    if not torch.cuda.is_available():
        return ""
    idle = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    if idle < torch.cuda.memory_reserved() // 5:
        return ""
    return (
        f" ({idle // MIB} MiB of it lie in pieces: start with"
        " PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True)"
    )
