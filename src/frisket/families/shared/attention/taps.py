"""Hooks that read what attention modules of diffusers' models multiply, without replacing them."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from frisket.attention.base import AttentionLayer, BranchUpdate, Projections, get_samples
from frisket.families.blocks import ON_BACKWARD

Remove = Callable[[], None]


@dataclass(slots=True)
class AttentionCall:
    """What one call of an attention module was handed and computed."""

    # By submodule of the attention: what it gave (`norm_q`), or, under "> name", what it was given
    # (`> to_out.0`).
    tensors: dict[str, Tensor] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)  # of the attention module
    inputs: dict[str, Any] = field(default_factory=dict)  # of the denoiser
    context: dict[str, Any] = field(default_factory=dict)  # of the module in between, where asked
    output: Any = None


@dataclass(frozen=True, slots=True)
class Tap:
    """Where the hooks of one attention module go, and how what they take is read."""

    denoiser: nn.Module
    block: nn.Module  # that is checkpointed or compiled as one
    attention: nn.Module
    outputs: tuple[str, ...]  # submodules of the attention whose output is taken
    read: Callable[[AttentionCall], Projections]
    entries: tuple[str, ...] = ()  # submodules whose first argument is taken
    context: nn.Module | None = None  # whose arguments are taken besides the denoiser's

    def __call__(self, name: str, report: Callable[[Projections], None]) -> Remove:
        """Put the hooks on; ValueError, naming the layer, where they would not be called."""
        self.refuse(name)
        hooks = TapHooks(self, report)
        attention = self.attention
        handles = [
            self.denoiser.register_forward_pre_hook(hooks.begin_denoiser, with_kwargs=True),
            attention.register_forward_pre_hook(hooks.begin_attention, with_kwargs=True),
            attention.register_forward_hook(hooks.finish_attention),
        ]
        if self.context is not None:
            handles.append(
                self.context.register_forward_pre_hook(hooks.begin_context, with_kwargs=True)
            )
        for path in self.outputs:
            take = partial(hooks.take_output, path)
            handles.append(attention.get_submodule(path).register_forward_hook(take))
        for path in self.entries:
            enter = partial(hooks.take_entry, path)
            handles.append(attention.get_submodule(path).register_forward_pre_hook(enter))

        def remove() -> None:
            for handle in handles:
                handle.remove()

        return remove

    def refuse(self, name: str) -> None:
        """ValueError for a compiled block, or for projections that were fused into one."""
        parts = (self.denoiser, self.block, self.attention)
        if any(getattr(part, "_compiled_call_impl", None) is not None for part in parts):
            raise ValueError(
                f"attention of {name} cannot be captured: its block is compiled, and a compiled"
                " block does not call hooks that came later. Switch compiling off (memory.compile ="
                " false), or choose layers of blocks that are not compiled"
            )
        if getattr(self.attention, "fused_projections", False):
            raise ValueError(
                f"attention of {name} cannot be captured: its projections were fused"
                " (fuse_qkv_projections); call unfuse_qkv_projections first"
            )


class TapHooks:
    """What the hooks of one tap do; a block computed again in the backward pass is not seen.

    Nothing of a call is held once it was reported.
    """

    def __init__(self, tap: Tap, report: Callable[[Projections], None]) -> None:
        """For one tap; `report` is handed what each call multiplied."""
        self.tap = tap
        self.report = report
        self.call = AttentionCall()
        self.recomputed = False

    def begin_denoiser(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Before the denoiser's forward pass."""
        self.call = AttentionCall(inputs=bind_arguments(module, args, kwargs))

    def begin_context(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Before that of the module in between."""
        if not is_backward():
            self.call.context = bind_arguments(module, args, kwargs)

    def begin_attention(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Before the attention's: take its arguments, but not of a block computed again."""
        self.recomputed = is_backward()
        if not self.recomputed:
            self.call.tensors.clear()
            self.call.arguments = bind_arguments(module, args, kwargs)

    def take_output(self, path: str, _module: nn.Module, _args: Any, output: Any) -> None:
        """After that of a submodule."""
        if not self.recomputed:
            self.call.tensors[path] = output

    def take_entry(self, path: str, _module: nn.Module, args: Any) -> None:
        """Before that of a submodule."""
        if not self.recomputed:
            self.call.tensors[f"> {path}"] = args[0]

    def finish_attention(self, _module: nn.Module, _args: Any, output: Any) -> None:
        """After the attention's: read and report."""
        if self.recomputed:
            return
        self.call.output = output
        self.fetch_block()
        with keep_saved():
            self.report(replace(self.tap.read(self.call), samples=get_samples()))
        self.call = AttentionCall(inputs=self.call.inputs, context=self.call.context)

    def fetch_block(self) -> None:
        """Let gradients of what was taken bring the block's weights back, where block swap is on.

        A loss of maps alone enters the block here and not at its output.
        """
        fetch = getattr(self.tap.block, ON_BACKWARD, None)
        if fetch is None:
            return
        for tensor in self.call.tensors.values():
            if tensor.requires_grad:
                tensor.register_hook(lambda _: fetch())


def make_layer(
    name: str,
    kind: Literal["cross", "joint"],
    tap: Tap,
    branch: Callable[[Tap, str, BranchUpdate], Remove] | None = None,
) -> AttentionLayer:
    """The layer that the contract asks for, of a tap; `branch` says where one joins, if at all."""

    def tap_layer(report: Callable[[Projections], None]) -> Remove:
        return tap(name, report)

    add_branch = None if branch is None else partial(branch, tap, name)
    return AttentionLayer(name, tap.attention, kind, tap_layer, add_branch)


def bind_arguments(module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """A forward pass's arguments by name: diffusers hands them over by place when it checkpoints.

    What falls to **kwargs is among them.
    """
    forward: Any = module.forward
    owner = (module,) if inspect.ismethod(forward) else ()
    signature = _read_signature(forward.__func__ if owner else forward)
    arguments = dict(signature.bind(*owner, *args, **kwargs).arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= arguments.pop(parameter.name, {})
    return arguments


@lru_cache(maxsize=256)
def _read_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Read once a function: it takes longer than a small layer."""
    return inspect.signature(function)


def is_backward() -> bool:
    """Whether the autograd engine is running: a checkpointed block is then computed again."""
    # torch.utils.checkpoint asks the same function.
    return bool(torch._C._current_graph_task_id() != -1)


def keep_saved() -> AbstractContextManager[Any]:
    """Within a checkpointed block: keep what is saved for the backward pass of a captured map.

    The innermost hooks alone are asked, so checkpointing does not count these tensors: the block
    may run again without the capture, and the map's gradient still reaches the block.
    """
    return saved_tensors_hooks(_keep, _keep)


def _keep(tensor: Tensor) -> Tensor:
    return tensor


def split_heads(tensor: Tensor, heads: int) -> Tensor:
    """B n (heads d) to b n heads d; one that is split already stays."""
    return tensor if tensor.ndim == 4 else tensor.unflatten(-1, (heads, -1))
