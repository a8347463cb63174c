"""A training step on shapes alone: what would be alive, and when, without a single weight."""

import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from frisket.families.blocks import plain_tensors

META = torch.device("meta")
SMALL = 1 << 14  # elements of a real tensor that stays real, for code that looks at its values
# What torch.autocast runs in the lower precision, and on CUDA in float32.
ATTENTION = "scaled_dot_product_attention"
PRODUCTS = ("linear", "matmul", "__matmul__", "bmm", "mm", "addmm", "baddbmm")
LOWERED = frozenset((*PRODUCTS, "conv1d", "conv2d", "conv3d", ATTENTION))
NORMS = ("layer_norm", "group_norm", "rms_norm", "softmax", "pow", "norm")
RAISED = frozenset((*NORMS, "mse_loss", "smooth_l1_loss", "l1_loss"))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made inside it that are alive: `now`, and at most, `peak`.

    By storage: a view costs nothing, what autograd keeps counts until it lets go. What a kernel
    takes for itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._storages: dict[int, weakref.ref[Any]] = {}

    def hold(self, tensors: Iterable[Tensor]) -> int:
        """Count tensors that were there before; returns their bytes."""
        before = self.now
        for value in tensors:
            self._see(value)
        return self.now - before

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and look at what it gives."""
        result = self.run(func, args, kwargs or {})
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._see(value)
        return result

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Call `func`; a subclass may change what it is called with."""
        return func(*args, **kwargs)

    def _see(self, value: Tensor) -> None:
        for tensor in plain_tensors(value):
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self._storages:
                continue
            size = storage.nbytes()
            # Not a function of its own: under test each would be compiled anew for its types.
            gone = partial(self._forget, key, size)
            self._storages[key] = weakref.ref(storage, gone)
            self.now += size
            self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int, _: Any) -> None:
        self._storages.pop(key, None)
        self.now -= size


class Rehearsal(LiveBytes):
    """Runs model code on the meta device, with small tensors kept real.

    Masks, token counts and timesteps are small, and code asks for their values; so they stay on
    the CPU, and what meets a meta tensor there becomes one. A question that only shapes could
    answer gets the answer no (or 0). Attention is taken to be fused, as torch's kernels are: it
    keeps its inputs, its output and one number a row. `lower` is the autocast precision.
    """

    def __init__(self, lower: torch.dtype | None = None, *, cuda: bool = True) -> None:
        super().__init__()
        self._calls = _Calls(lower, cuda=cuda)
        # Does nothing to meta tensors; it is there for code that asks whether it is on.
        self._autocast = torch.autocast("cpu", lower or torch.bfloat16, enabled=lower is not None)

    def __enter__(self) -> "Rehearsal":
        """Count from here on, with fused attention and autocast on the meta device."""
        super().__enter__()
        self._autocast.__enter__()
        self._calls.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Undo `__enter__`, in the opposite order."""
        self._calls.__exit__(kind, error, trace)
        self._autocast.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)

    @staticmethod
    def backward(loss: Tensor) -> None:
        """`loss.backward()`, with recomputed blocks seen as the first time: it turns modes off."""
        engine: Any = torch.autograd.Variable._execution_engine
        seed = (torch.ones_like(loss),)
        engine.run_backward(
            (loss,), seed, False, False, (), allow_unreachable=True, accumulate_grad=True
        )

    def run(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """The operation, with real and meta tensors brought together."""
        name = str(func)
        leaves = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        if all(value.device != META for value in leaves):
            return _stay_real(func, args, kwargs, leaves)
        if name.startswith(("aten._local_scalar_dense", "aten.equal", "aten.is_nonzero")):
            return leaves[0].dtype.is_floating_point * 0.0 if "scalar" in name else False
        args, kwargs = _avoid_real(name, args, kwargs, leaves)
        moved = tree_map_only(Tensor, _to_meta, (args, kwargs))
        result = func(*moved[0], **moved[1])
        changes = name.split(".")[1].endswith("_") and leaves[0].device != META
        return leaves[0] if changes else result


def _avoid_real(
    name: str, args: Any, kwargs: dict[str, Any], leaves: Sequence[Tensor]
) -> tuple[Any, dict[str, Any]]:
    """The arguments, with the meta device as the only one and real masks as places."""
    if "device" in kwargs:
        kwargs = {**kwargs, "device": META}  # nothing can be copied out of it
    if name.startswith("aten.index") and any(value.dtype == torch.bool for value in leaves):
        args = (args[0], [_places(index) for index in args[1]], *args[2:])
    return args, kwargs


def _stay_real(func: Any, args: Any, kwargs: dict[str, Any], leaves: Sequence[Tensor]) -> Any:
    """An operation that would make or move a tensor to the meta device, if that is large."""
    if kwargs.get("device") != META:
        return func(*args, **kwargs)
    if leaves and all(value.numel() <= SMALL for value in leaves):
        return func(*args, **{**kwargs, "device": torch.device("cpu")})
    result = func(*tree_map_only(Tensor, _to_meta, args), **kwargs)
    # Not the floating ones: activations are written into some, and follow them.
    created = not leaves and isinstance(result, Tensor) and not result.is_floating_point()
    if created and result.numel() <= SMALL:
        return func(*args, **{**kwargs, "device": torch.device("cpu")})
    return result


def _to_meta(value: Tensor) -> Tensor:
    return value if value.device == META else value.to(META)


def _places(index: Tensor | None) -> Tensor | None:
    """A real mask as the places it chooses: meta tensors cannot tell how many."""
    if index is None or index.dtype != torch.bool or index.device == META:
        return index
    assert index.ndim == 1
    return index.nonzero().squeeze(1)


class _Calls(TorchFunctionMode):
    """Fused attention and autocast, which have no kernels on the meta device."""

    def __init__(self, lower: torch.dtype | None, *, cuda: bool) -> None:
        super().__init__()
        self.lower, self.raised = lower, RAISED if cuda else frozenset({"mse_loss"})

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if self.lower is not None:
            if name in LOWERED:
                args, kwargs = _cast((args, kwargs), self.lower)
            elif name in self.raised:
                args, kwargs = _cast((args, kwargs), torch.float32)
        if name == "tensor" and torch.device(kwargs.get("device") or "cpu") == META:
            kwargs = {**kwargs, "device": torch.device("cpu")}  # written down, so its values matter
        if name == ATTENTION:
            return _attention(*args, **kwargs)
        return func(*args, **kwargs)


def _cast(arguments: tuple[Any, dict[str, Any]], dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    def cast(value: Tensor) -> Tensor:
        return value.to(dtype) if value.is_floating_point() else value

    changed: tuple[Any, dict[str, Any]] = tree_map_only(Tensor, cast, arguments)
    return changed


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **__: Any
) -> Tensor:
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        # torch turns it into numbers that are added, for every layer anew.
        attn_mask = torch.empty(attn_mask.shape, dtype=query.dtype, device=META)
    apply: Callable[..., Tensor] = _Fused.apply
    return apply(*(tensor.to(META) for tensor in (query, key, value)), attn_mask)


class _Fused(torch.autograd.Function):
    """Shapes of an attention kernel: inputs, output and a log-sum-exp a row are kept."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, out, rows)
        return out

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, *_kept = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
