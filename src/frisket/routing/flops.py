"""What a training step costs in floating point operations, and what routing leaves of it.

A block's cost is a polynomial in the image's tokens k: linear layers take 2 * in * out for each of
their rows, attention 2 * (d_qk + d_v) for each pair of a query and a key (products and sums both
counted; norms, rotary embeddings and activations are not, as in torch.utils.flop_counter). Rows of
text, of reference pictures and of padding stay whatever is kept. With a and b for the linear and
the attention part of a block at all tokens, the routed blocks being the share rho of all, and
nothing but the image in the sequence, a step is faster by

    1 / ((1 - rho) + rho * (a k + b k^2) / (a + b))

at the kept share k. VAE, text encoder, optimizer and copies of swapped blocks are not in it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from frisket.families.blocks import blocks_of
from frisket.families.experts import experts_of
from frisket.families.streams import DenoiserCall, Rows, Streams

# A backward pass of attention makes four products of the size of the forward pass's two; fused
# kernels (all of CUDA's) compute the scores once more, which is a fifth.
SAVED_SCORES, FUSED = 2.0, 2.5
ADAPTER_LEAVES = (".base_layer", ".lora_A.", ".lora_B.")


class UnknownRows(ValueError):
    """A denoiser whose rows are not known to be the image's or not; the message says which."""


@dataclass(frozen=True, slots=True)
class TokenCost:
    """FLOPs by the number k of an image's tokens: fixed + per_token * k + per_pair * k^2."""

    fixed: int | float = 0.0
    per_token: int | float = 0.0
    per_pair: int | float = 0.0

    def __add__(self, other: "TokenCost") -> "TokenCost":
        """The cost of both."""
        return TokenCost(
            self.fixed + other.fixed,
            self.per_token + other.per_token,
            self.per_pair + other.per_pair,
        )

    def scale(self, factor: int | float) -> "TokenCost":
        """The cost of `factor` times as much."""
        return TokenCost(self.fixed * factor, self.per_token * factor, self.per_pair * factor)

    def count(self, tokens: int | float) -> float:
        """FLOPs with this many tokens."""
        return self.fixed + self.per_token * tokens + self.per_pair * tokens**2


@dataclass(frozen=True, slots=True)
class BlockCost:
    """FLOPs of one block's linear layers (a) and of its attention (b)."""

    linear: TokenCost = TokenCost()
    attention: TokenCost = TokenCost()

    def __add__(self, other: "BlockCost") -> "BlockCost":
        """The cost of both."""
        return BlockCost(self.linear + other.linear, self.attention + other.attention)

    def count(self, tokens: int | float) -> float:
        """FLOPs with this many of the image's tokens."""
        return self.linear.count(tokens) + self.attention.count(tokens)


@dataclass(frozen=True, slots=True)
class StepCost:
    """FLOPs of a micro-batch: of each block in the order of the call, and of all the rest.

    `tokens` are the image's, of one sample. Windows are [start, end) of the blocks as a slice has
    them: negative numbers count from the end. Raises ValueError for a window without a block, and
    for more kept tokens than there are or none.
    """

    blocks: tuple[BlockCost, ...]
    rest: float
    tokens: int

    def __add__(self, other: "StepCost") -> "StepCost":
        """The cost of both, of the same blocks: a frozen model's pass and the trained one's."""
        blocks = tuple(a + b for a, b in zip(self.blocks, other.blocks, strict=True))
        return StepCost(blocks, self.rest + other.rest, self.tokens)

    def count(self) -> float:
        """FLOPs with all tokens."""
        return self.rest + sum(block.count(self.tokens) for block in self.blocks)

    def count_routed(self, kept_tokens: int | float, start: int, end: int) -> float:
        """FLOPs where the blocks of the window carry `kept_tokens` of the image's tokens."""
        if not 0 < kept_tokens <= self.tokens:
            raise ValueError(
                f"{kept_tokens:g} kept tokens of {self.tokens}: it must be 1 to all of them"
            )
        window = list_window(start, end, len(self.blocks))
        passed = (
            block.count(kept_tokens if index in window else self.tokens)
            for index, block in enumerate(self.blocks)
        )
        return self.rest + sum(passed)

    def predict_ratio(self, share: int | float, start: int, end: int) -> float:
        """How many times faster a step is by its FLOPs, at a share of kept tokens in (0, 1]."""
        return self.count() / self.count_routed(share * self.tokens, start, end)

    def measure_window(self, start: int, end: int) -> float:
        """Share of a step's FLOPs that the blocks of the window take: all that routing can save."""
        window = list_window(start, end, len(self.blocks))
        return sum(self.blocks[index].count(self.tokens) for index in window) / self.count()

    @property
    def attention_share(self) -> float:
        """How much of the blocks' FLOPs attention is: b / (a + b)."""
        total = sum(block.count(self.tokens) for block in self.blocks)
        return sum(block.attention.count(self.tokens) for block in self.blocks) / total

    def resize(self, tokens: int) -> "StepCost":
        """The blocks at another number of the image's tokens; the rest in proportion."""
        return StepCost(self.blocks, self.rest * tokens / self.tokens, tokens)


def list_window(start: int, end: int, count: int) -> range:
    """Places of the blocks [start, end) of `count`; ValueError where there is none of them."""
    window = range(count)[start:end]
    if not window:
        raise ValueError(f"the window [{start}, {end}) has none of the {count} blocks")
    return window


def mix_ratios(ratio: int | float, routed: int | float) -> float:
    """How many times faster a run is of whose steps the share `routed` is `ratio` times faster."""
    return 1 / ((1 - routed) + routed / ratio)


def expect_routed(full_step_probability: int | float, full_from: int | float) -> float:
    """The share of a run's steps that are routed: not by chance, and not near the end."""
    return (1 - full_step_probability) * full_from


def count_step(
    denoiser: nn.Module,
    streams: Streams,
    call: Callable[[], object],
    *,
    blocks: Mapping[str, nn.Module] | None = None,
    backward: float = FUSED,
    checkpointed: bool = False,
) -> StepCost:
    """Count what `call` asks of a denoiser, on any device (shapes alone are looked at).

    `call` runs `Family.predict` once: with gradients on, what a backward pass takes is counted by
    what asks for a gradient, attention's as `backward` times its forward pass; under `no_grad` a
    forward pass alone. `checkpointed` blocks run forward twice. `blocks` are those of the plain
    denoiser by name, in the order of the call (by default `blocks_of` it); of several experts the
    one that is called counts. UnknownRows where a block has no rows of the image's.
    """
    called: list[_Recorder] = []
    recorders = [
        _Recorder(streams, backward, blocks or blocks_of(expert), called)
        for expert in experts_of(denoiser).values()
    ]
    with _watch(list(experts_of(denoiser).values()), recorders), _Operations(called):
        call()
    if not called:
        raise UnknownRows("the denoiser was not called: nothing can be counted")
    return called[0].build(checkpointed=checkpointed)


@dataclass(slots=True, eq=False)
class _Recorder:
    """Adds up the operations of one plain denoiser."""

    streams: Streams
    backward: float
    blocks: Mapping[str, nn.Module]
    called: list["_Recorder"]  # those that were called; itself when it is
    path: list[str] = field(default_factory=list)  # of the modules it is in, the innermost last
    calls: list[DenoiserCall] = field(default_factory=list)
    sums: dict[str, list[BlockCost]] = field(default_factory=dict)  # forward, backward; "": rest
    layer_streams: dict[str, str] = field(default_factory=dict)  # looked up once

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Read what a call of the denoiser is about."""
        self.calls.append(self.streams.read(model, args, kwargs))
        if "image" not in self.calls[-1].sequences:
            raise UnknownRows(
                f"{type(model).__name__} has no sequence of tokens: it has no routing"
            )
        if self not in self.called:
            self.called.append(self)

    def add(self, cost: TokenCost, kind: str, gradients: float) -> None:
        """Add an operation: its forward pass, and as many times that in the backward pass."""
        parts = self.path[-1].split(".")
        names = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        place = next((name for name in names if name in self.blocks), "")
        sums = self.sums.setdefault(place, [BlockCost(), BlockCost()])
        for index, factor in enumerate((1.0, gradients)):
            sums[index] += BlockCost(**{kind: cost.scale(factor)})

    def build(self, *, checkpointed: bool) -> StepCost:
        """What was added up."""
        tokens = self.list_rows("image")[1]
        costs = []
        for name in self.blocks:
            forward, backward = self.sums.get(name, [BlockCost(), BlockCost()])
            again = forward if checkpointed and backward.count(tokens) else BlockCost()
            costs.append(forward + backward + again)
            if not forward.linear.per_token:
                raise UnknownRows(f"no linear layer of {name} works on tokens of the image")
        rest = sum(cost.count(tokens) for cost in self.sums.get("", ()))
        return StepCost(tuple(costs), rest, tokens)

    def list_rows(self, stream: str) -> tuple[int, int]:
        """Rows of a stream in the call it is in, and those of them that are the image's."""
        sequences: Mapping[Any, tuple[Rows, ...]] = self.calls[-1].sequences
        parts = sequences.get(stream, ())
        if stream == "joint" and not parts:  # two streams that meet in attention alone
            parts = (*sequences["image"], *sequences.get("text", ()))
        image = sum(part.count for part in parts if part.kind == "image")
        return sum(part.count for part in parts), image

    def find_stream(self, name: str) -> str:
        """Whose rows a layer works on, whatever an adapter put around it."""
        if name not in self.layer_streams:
            bare = name
            for leaf in ADAPTER_LEAVES:
                bare = bare.partition(leaf)[0]
            try:
                self.layer_streams[name] = self.streams.find(bare)
            except ValueError:
                # `build` refuses a block without rows of the image.
                self.layer_streams[name] = "apart"
        return self.layer_streams[name]

    def split_rows(self, count: int) -> tuple[float, float]:
        """Of `count` rows of attention: those that stay for good, and the share that is k's."""
        for stream in ("image", "joint"):
            rows, image = self.list_rows(stream)
            if rows == count:
                return float(rows - image), 1.0
        return float(count), 0.0


class _Operations(TorchFunctionMode):
    """Hands every product of matrices to the recorder of the denoiser that is being called."""

    def __init__(self, called: Sequence[_Recorder]) -> None:
        super().__init__()
        self.called = called

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function of torch and count it."""
        result = func(*args, **(kwargs or {}))
        recorder = self.called[-1] if self.called else None
        name = getattr(func, "__name__", "")
        if recorder is not None and recorder.path and name in _COUNTERS:
            _COUNTERS[name](recorder, result, *args, **(kwargs or {}))
        return result


def _count_linear(
    recorder: _Recorder, result: Tensor, input: Tensor, weight: Tensor, *_: Any, **__: Any
) -> None:
    rows, size = input.numel() / input.shape[-1], 2.0 * result.shape[-1] * input.shape[-1]
    total, image = recorder.list_rows(recorder.find_stream(recorder.path[-1]))
    # Of `total` rows a sample `image` are the picture's.
    share = image / total if total else 0.0
    per_token = size * rows * share / image if image else 0.0
    cost = TokenCost(size * rows * (1 - share), per_token)
    recorder.add(cost, "linear", _count_gradients(result, input, weight))


def _count_convolution(
    recorder: _Recorder, result: Tensor, input: Tensor, weight: Tensor, *_: Any, **__: Any
) -> None:
    size = 2.0 * result.numel() * prod(weight.shape[1:])
    recorder.add(TokenCost(size), "linear", _count_gradients(result, input, weight))


def _count_gradients(result: Tensor, *factors: Tensor) -> float:
    """Products of a backward pass: none under `no_grad`, where weights still ask for a gradient."""
    return float(sum(factor.requires_grad for factor in factors) * result.requires_grad)


def _count_attention(
    recorder: _Recorder,
    result: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *_: Any,
    **__: Any,
) -> None:
    fixed, per_token = recorder.split_rows(query.shape[-2])
    keys_fixed, keys_per_token = recorder.split_rows(key.shape[-2])
    if recorder.find_stream(f"{recorder.path[-1]}.to_k") == "text":  # as many words as tokens
        keys_fixed, keys_per_token = float(key.shape[-2]), 0.0
    pair = 2.0 * prod(query.shape[:-2]) * (query.shape[-1] + value.shape[-1])
    cost = TokenCost(
        pair * fixed * keys_fixed,
        pair * (fixed * keys_per_token + per_token * keys_fixed),
        pair * per_token * keys_per_token,
    )
    recorder.add(cost, "attention", recorder.backward * result.requires_grad)


_COUNTERS: dict[str, Callable[..., None]] = {
    "linear": _count_linear,
    "conv1d": _count_convolution,
    "conv2d": _count_convolution,
    "conv3d": _count_convolution,
    "scaled_dot_product_attention": _count_attention,
}


@contextmanager
def _watch(models: Sequence[nn.Module], recorders: Sequence[_Recorder]) -> Iterator[None]:
    """Keep each recorder told which call and which module its denoiser is in."""
    handles = []
    for model, recorder in zip(models, recorders, strict=True):
        handles.append(model.register_forward_pre_hook(recorder.begin, with_kwargs=True))
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(partial(_enter, recorder, name)))
            leave = partial(_leave, recorder)
            handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _enter(recorder: _Recorder, name: str, *_: Any) -> None:
    recorder.path.append(name)


def _leave(recorder: _Recorder, *_: Any) -> None:
    if recorder.path:  # torch calls it too where a hook before the module raised
        recorder.path.pop()
