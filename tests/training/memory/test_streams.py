"""The order in which block swap uses two CUDA streams, acted out on a machine without CUDA.

Every stream has a clock of what has surely happened before its next operation (its own operations,
and those of others that it waited for). A copy must come after all that may read the memory it is
written to, and a block's work after the copy of its weights.
"""

import math
from contextlib import contextmanager

import pytest
import torch
from tests.training.memory.test_offload import built, equal, step
from torch import nn

from frisket.adapters import lora
from frisket.families.blocks import blocks_of
from frisket.training.memory import offload, pinned
from frisket.training.memory.offload import swap
from frisket.training.memory.pinned import ALIGNED, Waiting

CPU = torch.device("cpu")


class Stream:
    """Only its clock: how far every stream surely is."""

    def __init__(self) -> None:
        self.clock = {id(self): 0}

    def ask(self) -> dict[int, int]:
        """One operation more; what is known to have happened when it is done."""
        self.clock[id(self)] += 1
        return dict(self.clock)

    record_event = ask

    def wait_event(self, event: dict[int, int]) -> None:
        for stream, count in event.items():
            self.clock[stream] = max(count, self.clock.get(stream, 0))

    def wait_stream(self, other: "Stream") -> None:
        self.wait_event(other.ask())

    def comes_after(self, event: dict[int, int]) -> bool:
        return all(self.clock.get(stream, 0) >= count for stream, count in event.items())


@pytest.fixture
def device(monkeypatch):
    """Two streams, and what goes wrong on them by name."""
    compute, copying = Stream(), Stream()
    here = [compute]
    wrong, released, filled, most = [], [], {}, [0]

    @contextmanager
    def on(stream):
        here.append(stream)
        yield
        here.pop()

    monkeypatch.setattr(torch.cuda, "current_stream", lambda *_: here[-1])
    monkeypatch.setattr(torch.cuda, "stream", on)
    fill, leave = offload.Group._fill, offload.Group.leave

    def filling(group):
        if not all(here[-1].comes_after(event) for event in released):
            wrong.append("a copy into memory that is still read")
        fill(group)
        filled[id(group)] = here[-1].ask()

    def leaving(group):
        if group.inside and group.stream is not None:
            released.append(compute.ask())  # all that was asked so far may read it
        leave(group)

    monkeypatch.setattr(offload.Group, "_fill", filling)
    monkeypatch.setattr(offload.Group, "leave", leaving)

    def watch(swapped, denoiser):
        swapped.stream = copying

        def work(name):
            group = swapped.groups[name]
            if not compute.comes_after(filled[id(group)]):
                wrong.append(f"{name} before its weights are there")
            compute.ask()
            most[0] = max(most[0], sum(group.inside for group in swapped.groups.values()))

        for name, block in blocks_of(denoiser).items():
            block.register_forward_pre_hook(lambda *_, name=name: work(name))
        return swapped

    return watch, wrong, released, most


def deep(count: int) -> tuple:
    """The tiny Wan with more blocks, so that blocks follow one another."""
    shelf, small, *given = built(checkpointing=True)
    config = {**small.config, "num_layers": count}
    denoiser = type(small).from_config(config)
    lora.attach(denoiser, lora.LoraSpec(rank=4, targets=shelf.lora_targets), seed=0)
    denoiser.enable_gradient_checkpointing()
    return shelf, denoiser.train(), given


def test_copies_and_work_wait_for_each_other(device):
    watch, wrong, released, most = device
    shelf, denoiser, given = deep(4)
    plain = step(shelf, denoiser, *given)
    watch(swap(denoiser, 4, CPU), denoiser)
    for _ in range(2):  # the second time the order is known, and blocks come ahead
        assert equal(step(shelf, denoiser, *given), plain)
    with torch.no_grad(), lora.frozen(denoiser):
        shelf.predict(denoiser, given[0], torch.tensor([0.3, 0.8]), given[1])
    assert equal(step(shelf, denoiser, *given), plain)
    assert wrong == []
    assert most == [2]  # the block in use and the next one, never more
    assert len(released) > 15


def test_the_acting_notices_a_copy_that_does_not_wait(device, monkeypatch):
    watch, wrong, _, _ = device
    monkeypatch.setattr(Stream, "wait_stream", lambda *_: None)
    shelf, denoiser, *given = built(checkpointing=True)
    watch(swap(denoiser, 2, CPU), denoiser)
    step(shelf, denoiser, *given)
    assert "a copy into memory that is still read" in wrong


def test_waiting_weights_lie_in_pieces_that_are_not_rounded_up():
    # torch rounds a page-locked piece up to a power of two: taken singly, FLUX's would be a third
    # larger. A hundredth of its sizes here.
    sizes = [(307, 307), (307, 1228), (307,), (92, 307), (1228, 307), (307, 213), (1,)] * 12
    tensors = [torch.randn(size).bfloat16() for size in sizes]
    room = Waiting(pin=True, slab=1 << 21)
    copies = [room.copy(tensor) for tensor in tensors]
    for copy, tensor in zip(copies, tensors, strict=True):
        assert torch.equal(copy, tensor)
        assert copy.stride() == tensor.stride()
        assert copy.data_ptr() % 64 == room.pieces[0].data_ptr() % 64
    needed = sum(tensor.nbytes for tensor in tensors)
    singly = sum(1 << math.ceil(math.log2(tensor.nbytes)) for tensor in tensors)
    assert all(math.log2(piece.numel()).is_integer() for piece in room.pieces)
    assert room.nbytes - needed < (1 << 21) + 0.05 * needed
    assert singly > 1.3 * needed
    assert not any(used % ALIGNED for used in room.used)


def test_memory_that_cannot_be_page_locked_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(pinned, "_driver_is_here", lambda: True)  # torch then refuses by itself
    if torch.cuda.is_available():
        pytest.skip("a driver that is here grants it")
    room = Waiting(pin=True, slab=1 << 12)
    given = torch.arange(2000.0)
    copies = [room.copy(given), room.copy(given)]
    assert all(torch.equal(copy, given) for copy in copies)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "0.0 GiB of main memory are page-locked, and the system grants no more" in said[0]


def test_waiting_weights_keep_their_layout():
    room = Waiting(pin=True, slab=1 << 12)
    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    for tensor in (layer.weight, torch.tensor(3.0), torch.arange(5, dtype=torch.uint8)):
        copy = room.copy(tensor)
        assert torch.equal(copy, tensor)
        assert copy.stride() == tensor.stride()
    large = room.copy(torch.zeros(3000))  # larger than a piece: the next power of two
    assert large.untyped_storage().nbytes() == 1 << 14
