"""Hooks that add a second attention to a layer of diffusers' models, without replacing it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from frisket.attention.base import BranchCall, BranchUpdate, get_samples
from frisket.families.shared.attention.taps import (
    AttentionCall,
    Remove,
    Tap,
    bind_arguments,
    split_heads,
)
from frisket.shapes import Cells

PROJECTED = ("to_q", "to_k", "to_v")


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a branch takes its query, and where it joins; put on by calling it.

    `queries` are submodules of the attention: the first that there is gives the query (SD3.0 has
    no norm). Without `stream` the branch is added to what goes into `to_out.0`; with it, to that
    output of the layer's block. `projected`: it is handed query, key and value before their norms.
    """

    find_cells: Callable[[AttentionCall], Cells]
    queries: tuple[str, ...] = ("to_q",)
    stream: int | None = None
    folded: bool = False
    heads_first: bool = False  # the norm of the query has its heads before its rows (SD3)
    projected: bool = False

    def __call__(self, tap: Tap, name: str, update: BranchUpdate) -> Remove:
        """Put the hooks on; ValueError, naming the layer, where they would not be called."""
        tap.refuse(name)
        hooks = BranchHooks(self, tap, update)
        attention: Any = tap.attention
        names = dict(attention.named_modules())
        query = names[next(path for path in self.queries if names.get(path) is not None)]
        handles = [
            tap.denoiser.register_forward_pre_hook(hooks.begin_denoiser, with_kwargs=True),
            query.register_forward_hook(partial(hooks.take_output, "query")),
        ]
        for part in PROJECTED if self.projected else ():
            handles.append(names[part].register_forward_hook(partial(hooks.take_output, part)))
        if tap.context is not None:
            handles.append(
                tap.context.register_forward_pre_hook(hooks.begin_context, with_kwargs=True)
            )
        if self.stream is None:
            handles.append(names["to_out.0"].register_forward_pre_hook(hooks.join_attention))
        else:
            handles.append(tap.block.register_forward_hook(hooks.join_block))

        def remove() -> None:
            for handle in handles:
                handle.remove()

        return remove


class BranchHooks:
    """What the hooks of one branch do; a block computed again in the backward pass has it too."""

    def __init__(self, branch: Branch, tap: Tap, update: BranchUpdate) -> None:
        """For one layer; `update` is asked in every call."""
        self.branch = branch
        self.heads: int = tap.attention.heads  # type: ignore[assignment]
        self.update = update
        self.call = AttentionCall()

    def begin_denoiser(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Before the denoiser's forward pass."""
        self.call = AttentionCall(inputs=bind_arguments(module, args, kwargs))

    def begin_context(self, module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        """Before that of the module in between."""
        self.call.context = bind_arguments(module, args, kwargs)

    def take_output(self, name: str, _module: nn.Module, _args: Any, output: Tensor) -> None:
        """After that of the query's projection or norm, and of what else is taken."""
        self.call.tensors[name] = output

    def join_attention(self, _module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Before the out projection."""
        joined = self._add(args[0])
        return None if joined is None else (joined, *args[1:])

    def join_block(self, _module: nn.Module, _args: Any, output: Any) -> Any:
        """After the block's forward pass."""
        place = self.branch.stream
        joined = self._add(output[place])
        if joined is None:
            return None
        return tuple(joined if index == place else part for index, part in enumerate(output))

    def _add(self, output: Tensor) -> Tensor | None:
        """What the layer gave, with the branch on the picture's own rows, before references."""
        cells, query = self.branch.find_cells(self.call), self.call.tensors.pop("query")
        count, inputs = math.prod(cells), self.call.inputs
        if self.branch.heads_first and query.ndim == 4:
            query = query.transpose(1, 2)
        query = split_heads(query, self.heads)
        update = self.update(
            BranchCall(
                query=query[:, :count],
                output=output[:, :count],
                cells=cells,
                folded=self.branch.folded,
                timestep=inputs.get("timestep"),
                prompt=inputs.get("encoder_hidden_states"),
                samples=get_samples(),
                projected=self._take_projected(count),
            )
        )
        if update is None:
            return None
        joined = output[:, :count] + update.to(output.dtype)
        return joined if output.shape[1] == count else torch.cat([joined, output[:, count:]], 1)

    def _take_projected(self, count: int) -> tuple[Tensor, Tensor, Tensor] | None:
        if not self.branch.projected:
            return None
        query, key, value = (
            split_heads(self.call.tensors.pop(name)[:, :count], self.heads) for name in PROJECTED
        )
        return query, key, value


def find_picture_cells(patch: Cells, call: AttentionCall) -> Cells:
    """Of a model that takes the picture as b c (f) h w and cuts it into patches (f, h, w)."""
    shape = call.inputs["hidden_states"].shape
    frames = shape[2] if len(shape) == 5 else 1
    return frames // patch[0], shape[-2] // patch[1], shape[-1] // patch[2]


def cut_patches(patch: Cells) -> Callable[[AttentionCall], Cells]:
    """`find_picture_cells` for one patch size."""
    return partial(find_picture_cells, patch)
