"""How large an adapter's update is, layer by layer, and a limit to it."""

from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from frisket.adapters.attach import unwrap_model
from frisket.adapters.spec import ADAPTER
from frisket.families.experts import experts_of


@torch.no_grad()
def limit_norms(denoiser: nn.Module, largest: float) -> tuple[float, float]:
    """Scale down every layer's update of a Frobenius norm above `largest`, in place.

    The update is alpha / rank times B A (of loha and lokr their product; a dora's magnitudes are
    left alone). Each of its factors gives its even share, so that none outgrows the other: kohya's
    `scale_weight_norms`. Returns how many layers were scaled, and the largest norm there is now.
    """
    layers = [
        module
        for model in experts_of(denoiser).values()
        for module in unwrap_model(model).modules()
        if isinstance(module, BaseTunerLayer)
    ]
    norms = torch.stack([_norm(layer) for layer in layers])
    ratios = (largest / norms).clamp_max(1.0)  # 0 / 0 cannot be: a norm of 0 gives infinity, so 1
    for layer, ratio in zip(layers, ratios, strict=True):
        factors = _factors(layer)
        for factor in factors:
            factor.mul_(ratio.to(factor.device) ** (1 / len(factors)))
    scaled, most = torch.stack([(ratios < 1).sum().float(), (norms * ratios).max()]).tolist()
    return scaled, most


def _factors(layer: Any) -> list[Tensor]:
    """What the update is a product of, but for a magnitude."""
    held = [getattr(layer, name) for name in layer.adapter_layer_names if "magnitude" not in name]
    factors: list[Any] = [parts[ADAPTER] for parts in held if ADAPTER in parts]
    return [
        getattr(factor, "weight", factor) for factor in factors
    ]  # a module's, or a parameter itself


def _norm(layer: Any) -> Tensor:
    scale = abs(float(layer.scaling[ADAPTER]))
    if hasattr(layer, "lora_A"):
        low, high = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
        return scale * _product(high, low)
    if hasattr(layer, "lokr_w1"):  # the norm of a Kronecker product is the product of the norms
        return scale * _whole(layer, "lokr_w1") * _whole(layer, "lokr_w2")
    update: Tensor = layer.get_delta_weight(ADAPTER)
    return update.float().norm()


def _whole(layer: Any, name: str) -> Tensor:
    """Of a LoKr's factor, whole or itself a product."""
    if ADAPTER in (held := getattr(layer, name)):
        value: Tensor = held[ADAPTER]
        return value.float().norm()
    return _product(getattr(layer, f"{name}_a")[ADAPTER], getattr(layer, f"{name}_b")[ADAPTER])


def _product(high: Tensor, low: Tensor) -> Tensor:
    """Norm of B A by way of two r x r matrices, without the product: sum of (B^T B) * (A A^T)."""
    left, right = high.float().flatten(1), low.float().flatten(1)
    square = ((left.T @ left) * (right @ right.T)).sum()
    return square.clamp_min(0.0).sqrt()
