"""Block swap: frozen weights of a denoiser's blocks wait on the CPU until they are needed."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from frisket.families.blocks import ON_BACKWARD, blocks_of, plain_tensors
from frisket.training.memory.pinned import Waiting


class Group:
    """Frozen tensors that are on the device together, or not at all.

    What waits on the CPU (page-locked where there is CUDA) is a copy that is never written to:
    frozen weights need no way back. Out, the tensors on the device have no storage; in, the same
    storage has its bytes again. So everything that points at them stays right: parameters,
    quantised tensors and their scales, and what autograd keeps of a forward pass (views, too), with
    and without gradient checkpointing.
    """

    def __init__(
        self,
        modules: Iterable[nn.Module],
        device: torch.device,
        *,
        but: Sequence[Tensor] = (),
        room: Waiting | None = None,
    ) -> None:
        """Take over the frozen tensors of modules that are on `device` already, `but` for some.

        Their copies lie in `room`, which several groups may share.
        """
        held: dict[int, Tensor] = {}
        others = {id(tensor) for tensor in but}
        for module in modules:
            frozen = [value for value in module.parameters() if not value.requires_grad]
            for value in [*frozen, *module.buffers()]:
                held |= {
                    id(tensor): tensor
                    for tensor in plain_tensors(value)
                    if id(tensor) not in others
                }
        self.device = device
        self.tensors = [_own(tensor) for tensor in held.values() if tensor.numel()]
        room = room or Waiting(pin=device.type == "cuda")
        self.waiting = [room.copy(tensor) for tensor in self.tensors]
        self.inside = True
        self.stream: Any = None  # the CUDA stream that filled them, where it was one of its own
        self.arrived: Any = None  # a CUDA event, until the stream that computes has waited for it
        self.leave()

    @property
    def nbytes(self) -> int:
        """Bytes on the device while inside."""
        return sum(map(_nbytes, self.waiting))

    def fetch(self, stream: Any = None) -> None:
        """Fill the tensors on the device; on a `stream` of its own this returns at once."""
        if self.inside:
            return
        self.inside = True
        self.stream = stream
        if stream is None:
            self._fill()
            return
        # The memory is taken from what the stream let go of (see `leave`), and who computes may
        # still read that: the stream waits for what was asked of the device so far.
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            self._fill()
            self.arrived = stream.record_event()

    def wait(self) -> None:
        """Let the current stream wait for what another one is still copying."""
        if self.arrived is not None:
            torch.cuda.current_stream(self.device).wait_event(self.arrived)
            self.arrived = None

    def leave(self) -> None:
        """Let the memory on the device go.

        Memory goes back to the stream that took it, which first waits for what computes with it.
        Not `record_stream`: the allocator then holds memory back until the device has passed that
        point, and the CPU, which runs far ahead, would take new memory for block after block.
        """
        if not self.inside:
            return
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.device))
        for tensor in self.tensors:
            tensor.untyped_storage().resize_(0)
        self.inside, self.stream, self.arrived = False, None, None

    @torch.no_grad()
    def _fill(self) -> None:
        for tensor, waiting in zip(self.tensors, self.waiting, strict=True):
            if tensor.dtype != waiting.dtype:
                # Layer-wise storage widens a layer for its call, and a recomputation that stops
                # early (checkpointing) leaves the last one wide.
                tensor.data = torch.empty_like(waiting, device=self.device)
            tensor.untyped_storage().resize_(_nbytes(waiting))
            # Autograd would take the filling for a change of what it keeps; it is not one.
            with torch.autograd._unsafe_preserve_version_counter(tensor):
                tensor.copy_(waiting, non_blocking=True)


class BlockOffload:
    """The swapped blocks of one denoiser: one is inside, and on CUDA the next one is on its way.

    A block comes in before its forward pass and again before its backward pass, and goes when
    another is needed. Which one is next is what followed it last time. Parameters that are trained
    stay on the device for good.
    """

    def __init__(self, blocks: Mapping[str, nn.Module], device: torch.device) -> None:
        """Blocks by name, in order; each is moved to the device on its own and then emptied."""
        self.groups: dict[str, Group] = {}
        self.peak = 0  # most bytes of swapped blocks on the device at one time
        self.forwards: dict[str, str] = {}  # the block that was called after each
        self.backwards: dict[str, str] = {}
        self.last = ("", "")  # direction and name of the block in use
        self.stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.room = Waiting(pin=device.type == "cuda")
        for name, block in blocks.items():
            block.to(device)
            self.groups[name] = Group([block], device, room=self.room)
            block.register_forward_pre_hook(lambda *_, name=name: self._before(name))
            block.register_forward_hook(lambda *args, name=name: self._after(name, args[-1]))
            # A captured attention map leads into a block without passing its output.
            setattr(block, ON_BACKWARD, partial(self._backward, name))

    def use(self, name: str, *, backward: bool = False) -> None:
        """Have one block inside, and nothing else but the one that is expected after it."""
        order = self.backwards if backward else self.forwards
        direction = "backward" if backward else "forward"
        if self.last != (direction, name):
            if self.last[0] == direction:
                order[self.last[1]] = name
            self.last = (direction, name)
        expected = order.get(name, "") if self.stream is not None else ""
        for other, group in self.groups.items():
            if other not in (name, expected):
                group.leave()
        self.groups[name].fetch(self.stream)
        self.groups[name].wait()
        if expected:
            self.groups[expected].fetch(self.stream)
        self.peak = max(self.peak, self.inside)

    @property
    def tensors(self) -> list[Tensor]:
        """All that is swapped."""
        return [tensor for group in self.groups.values() for tensor in group.tensors]

    @property
    def inside(self) -> int:
        """Bytes of swapped blocks on the device now."""
        return sum(group.nbytes for group in self.groups.values() if group.inside)

    def leave(self) -> None:
        """Let every swapped block's memory on the device go."""
        for group in self.groups.values():
            group.leave()

    def _before(self, name: str) -> None:
        self.use(name, backward=_in_backward())

    def _after(self, name: str, output: Any) -> None:
        if _in_backward():
            return  # computed again for the backward pass, which comes now and needs the weights
        for tensor in _tensors(output):
            if tensor.requires_grad:
                tensor.register_hook(lambda _, name=name: self._backward(name))

    def _backward(self, name: str) -> None:
        self.use(name, backward=True)
        # Nothing is called after the first block's backward pass: autograd says when all is done.
        engine: Any = torch.autograd.Variable._execution_engine
        engine.queue_callback(self.leave)


def swap(denoiser: nn.Module, count: int, device: torch.device) -> BlockOffload:
    """Let the last `count` blocks of a plain denoiser wait on the CPU, the rest be on `device`.

    To be called once, after the adapter is attached. ValueError where it has fewer blocks.
    """
    blocks = blocks_of(denoiser)
    check_depth(denoiser, count)
    chosen = dict(list(blocks.items())[-count:])
    to_device(denoiser, device, but=list(chosen.values()))
    offload = BlockOffload(chosen, device)
    ignore_in_ddp(denoiser, list(chosen))
    return offload


def check_depth(denoiser: nn.Module, count: int) -> None:
    """ValueError where a denoiser (its shapes are enough) has not `count` blocks to swap."""
    there = len(blocks_of(denoiser))
    if not 0 < count <= there:
        raise ValueError(
            f"memory.swap_blocks = {count}: {type(denoiser).__name__} has {there} blocks to swap;"
            f" choose 0 to {there}"
        )


def to_device(denoiser: nn.Module, device: torch.device, *, but: Sequence[nn.Module] = ()) -> None:
    """Move all of a denoiser but some of its modules."""
    apart = {id(inner) for module in but for inner in module.modules()}
    for module in denoiser.modules():
        if id(module) not in apart:
            _move_own(module, device)


def ignore_in_ddp(denoiser: nn.Module, names: Sequence[str]) -> None:
    """Tell DistributedDataParallel to leave frozen weights alone that may have no storage.

    It sends every parameter and buffer of the first process to the others once, and buffers again
    in every forward pass; frozen ones are the same everywhere, for they were loaded.
    """
    known = [*denoiser.named_parameters(), *denoiser.named_buffers()]
    left = {
        path
        for path, value in known
        if not value.requires_grad and any(path.startswith(f"{name}.") for name in names)
    }
    before = set(getattr(denoiser, "_ddp_params_and_buffers_to_ignore", ()))
    denoiser._ddp_params_and_buffers_to_ignore = sorted(before | left)  # type: ignore[assignment]


def _move_own(module: nn.Module, device: torch.device) -> None:
    """A module's own parameters and buffers, not those of the modules in it."""
    children, module._modules = module._modules, {}
    try:
        module.to(device)  # quantised weights know what belongs to them
    finally:
        module._modules = children


def _own(tensor: Tensor) -> Tensor:
    """The tensor, with a storage that is its own and can be let go (a mapped file's cannot)."""
    storage = tensor.untyped_storage()
    if not storage.resizable() or storage.nbytes() != tensor.numel() * tensor.element_size():
        tensor.data = tensor.data.clone()
    return tensor


def _nbytes(tensor: Tensor) -> int:
    """Bytes of a tensor without gaps, wherever it lies."""
    return tensor.numel() * tensor.element_size()


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [tensor for tensor in output if isinstance(tensor, Tensor)] if output is not None else []


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1
