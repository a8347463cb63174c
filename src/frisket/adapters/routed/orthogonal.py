"""T-LoRA's orthogonal start: a LoRA of orthonormal factors, less a frozen copy of itself."""

from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from frisket.adapters.layers import A, B, Layer
from frisket.adapters.spec import LoraSpec

SINGULAR = "lora_singular"  # of a layer: S by adapter, trained
START = "lora_start"  # of a layer: A, B and S as they were at the start, by adapter, frozen
STEPS = 20_000  # of the integral over the spectrum


class Start(nn.Module):
    """What an orthogonal adapter of one layer started with, frozen."""

    def __init__(self, down: nn.Module, up: nn.Module, singular: Tensor) -> None:
        """Copies of A and B as modules, and S."""
        super().__init__()
        self.down = deepcopy(down).requires_grad_(False)
        self.up = deepcopy(up).requires_grad_(False)
        self.singular = nn.Parameter(singular.clone(), requires_grad=False)


def start_orthogonal(layer: Any, adapter: str) -> None:
    """Turn the fresh LoRA of one layer into B S M A - B0 S0 M A0 (Soboleva et al., 2507.05964).

    A and B become orthonormal sets of vectors, drawn from torch's default generator, S the expected
    last singular values of a Gaussian matrix of the layer's shape with standard deviation 1 / r.
    The authors draw that matrix and take rows of U and columns of V, which are orthonormal sets of
    the same distribution (not its singular vectors), and its own last values. The update is exactly
    zero at the start, whichever ranks act. ValueError for a rank beyond the layer's sides.
    """
    down, up = layer.lora_A[adapter], layer.lora_B[adapter]
    rank, inputs = down.weight.shape[0], down.weight[0].numel()
    outputs = up.weight.shape[0]
    if rank > min(inputs, outputs):
        raise ValueError(
            f"lora.orthogonal: a layer of {inputs} inputs and {outputs} outputs has no {rank}"
            f" orthonormal vectors: set lora.rank to {min(inputs, outputs)} or less, or leave the"
            " layer out with lora.exclude"
        )
    # float32 whatever the base is: a rounded copy would not cancel what is trained in float32.
    down.weight.data = _draw(inputs, rank, down.weight).T.reshape(down.weight.shape).contiguous()
    up.weight.data = _draw(outputs, rank, up.weight).reshape(up.weight.shape)
    values = expect_last(inputs, outputs, rank).to(down.weight.device)
    for name in (SINGULAR, START):
        if not hasattr(layer, name):
            setattr(layer, name, nn.ParameterDict() if name == SINGULAR else nn.ModuleDict())
    getattr(layer, SINGULAR)[adapter] = nn.Parameter(values.clone())
    getattr(layer, START)[adapter] = Start(down, up, values)


def compute_orthogonal(layer: Any, adapter: str, x: Tensor, ranks: Any) -> Tensor:
    """The update before alpha / rank: both halves under the same `ranks` (of a low tensor)."""
    start = getattr(layer, START)[adapter]
    low = _pass(layer.lora_A[adapter], x, getattr(layer, SINGULAR)[adapter], ranks)
    base = _pass(start.down, x, start.singular, ranks)
    update: Tensor = layer.lora_B[adapter](low) - start.up(base)
    return update


def is_orthogonal(layer: Any, adapter: str) -> bool:
    """Whether the adapter of a layer had an orthogonal start."""
    return adapter in getattr(layer, START, {})


def export_layer(layer: Any, adapter: str, spec: LoraSpec) -> Layer:
    """The same update as a plain LoRA of twice the rank: [B S | -B0 S0] [A; A0]."""
    start = getattr(layer, START)[adapter]
    halves = (
        (layer.lora_A[adapter], layer.lora_B[adapter], getattr(layer, SINGULAR)[adapter], 1.0),
        (start.down, start.up, start.singular, -1.0),
    )
    low = torch.cat([down.weight for down, _, _, _ in halves])
    high = torch.cat(
        [up.weight * (sign * _shape(singular, up.weight, 1)) for _, up, singular, sign in halves], 1
    )
    paired_spec = pair_ranks(spec)
    return Layer("lora", {A: low.detach(), B: high.detach()}, paired_spec.rank, paired_spec.alpha)


def import_layer(layer: Any, adapter: str, file: Layer) -> None:
    """Fill an orthogonal adapter with what `export_layer` gave; S is the length of B's columns."""
    start = getattr(layer, START)[adapter]
    halves = (
        (layer.lora_A[adapter], layer.lora_B[adapter], getattr(layer, SINGULAR)[adapter], 1.0),
        (start.down, start.up, start.singular, -1.0),
    )
    for half, (down, up, singular, sign) in enumerate(halves):
        rank = len(singular)
        window = slice(half * rank, (half + 1) * rank)
        columns = sign * file.high[:, window].float()
        lengths = columns.flatten(2).norm(dim=(0, 2)) if columns.ndim > 2 else columns.norm(dim=0)
        safe = lengths.clamp_min(1e-12)
        down.weight.data.copy_(file.low[window].reshape(down.weight.shape))
        up.weight.data.copy_((columns / _shape(safe, columns, 1)).reshape(up.weight.shape))
        singular.data.copy_(lengths)


def pair_ranks(spec: LoraSpec) -> LoraSpec:
    """What a file says of an adapter: an orthogonal one is a LoRA of twice the rank, in pairs."""
    if not spec.orthogonal:
        return spec
    alpha = None if spec.alpha is None else 2 * spec.alpha
    return replace(spec, rank=2 * spec.rank, alpha=alpha, rank_pairs=True, orthogonal=False)


@lru_cache(maxsize=256)
def expect_last(inputs: int, outputs: int, rank: int) -> Float[Tensor, "r"]:
    """The expected last `rank` singular values of an inputs x outputs matrix of N(0, 1 / rank^2).

    Quantiles of the Marchenko-Pastur law, largest first; float32. No matrix is drawn: of a layer of
    3072 x 12288 its decomposition takes half a minute.
    """
    small, large = sorted((inputs, outputs))
    ratio = small / large
    low, high = (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2
    angle = torch.linspace(0, torch.pi / 2, STEPS + 1, dtype=torch.float64, device="cpu")
    x = low + (high - low) * angle.sin() ** 2
    # The density of x times dx / d angle: smooth also where the law itself has no bound.
    density = ((high - low) * angle.sin() * angle.cos()) ** 2 / (
        torch.pi * ratio * x.clamp_min(1e-300)
    )
    density[0] = density[1] if low == 0 else 0.0
    mass = torch.cat([density.new_zeros(1), ((density[1:] + density[:-1]) / 2).cumsum(0)])
    targets = (torch.arange(rank, dtype=torch.float64, device="cpu") + 0.5) / small * mass[-1]
    upper = torch.searchsorted(mass, targets).clamp(1, STEPS)
    share = (targets - mass[upper - 1]) / (mass[upper] - mass[upper - 1])
    value = x[upper - 1] + share * (x[upper] - x[upper - 1])
    return ((value * large).sqrt() / rank).flip(0).float()


def _draw(size: int, rank: int, like: Tensor) -> Float[Tensor, "size r"]:
    """Orthonormal columns, uniform over all such sets: QR of a Gaussian with its signs undone."""
    gaussian = torch.randn(size, rank, device="meta" if like.is_meta else "cpu")
    vectors, triangle = torch.linalg.qr(gaussian)
    return (vectors * triangle.diagonal().sign()).to(like.device)


def _pass(down: nn.Module, x: Tensor, singular: Tensor, ranks: Any) -> Tensor:
    low: Tensor = down(x)
    low = low * (singular if isinstance(down, nn.Linear) else _shape(singular, low, 1))
    factor = ranks(low)
    return low if factor is None else low * factor


def _shape(values: Tensor, like: Tensor, axis: int) -> Tensor:
    """One value a rank, along an axis of another tensor."""
    return values.reshape([-1 if index == axis else 1 for index in range(like.ndim)])
