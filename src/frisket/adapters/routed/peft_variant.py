"""All that Frisket uses of peft's private names, in one place: the seam in a LoRA layer's forward.

peft 0.17 to 0.21 call `layer.lora_variant[adapter].forward(...)` instead of their own formula where
an adapter has a variant (peft/tuners/lora/layer.py). peft says of variants that they are prone to
change: tests/adapters/routed/test_peft_variant.py looks whether they still work.
"""

from functools import partial
from typing import Any, NoReturn

import torch
from peft.tuners.lora.layer import LoraLayer, LoraVariant
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from frisket.adapters.routed.calls import follow_calls
from frisket.adapters.routed.factors import Factors, Site
from frisket.adapters.routed.orthogonal import compute_orthogonal, is_orthogonal
from frisket.adapters.spec import ADAPTER
from frisket.adapters.targets import unwrap_model
from frisket.families.experts import experts_of
from frisket.families.streams import Streams

REASON = (
    "this adapter acts by noise level, word or place, which no weight can hold: nothing to merge."
    " Sample with it as it is, or write a plain LoRA with frisket convert --drop-schedule"
)


class CannotRoute(ValueError):
    """An adapter whose update no factor can be put on."""


class RoutedLora(LoraVariant):
    """A LoRA's update with a factor on its ranks, and one on its rows or cells.

    The same operations as peft's where nothing is multiplied, so that the numbers are peft's to
    the bit; a factor of ones multiplies by one, which changes no bit either.
    """

    def __init__(self, factors: Factors) -> None:
        """`site` is filled in by `connect`."""
        self.factors = factors
        self.site = Site()

    def supports_lora_conversion(self) -> bool:
        """Never, for the reason that REASON gives."""
        return False

    def forward(
        self, module: Any, active_adapter: str, x: Tensor, result: Tensor, **_: Any
    ) -> Tensor:
        """The base's output and the update, each factor where it acts."""
        update = self.compute_update(module, active_adapter, x)
        if _must_round(module):
            update = update.to(result.dtype)
        if self.factors.observer is not None:
            self.factors.observer(self.site.name, result, update)
        return result + update

    def compute_update(self, module: Any, adapter: str, x: Tensor) -> Tensor:
        """The update after all factors."""
        down, up = module.lora_A[adapter], module.lora_B[adapter]
        channels = not isinstance(down, nn.Linear)
        low = down(module.lora_dropout[adapter](x))
        ranks = self.factors.compute_rank_factor(self.site, low, channels=channels)
        update: Tensor = up(low if ranks is None else low * ranks) * module.scaling[adapter]
        rows = self.factors.compute_row_factor(self.site, update, channels=channels)
        return update if rows is None else update * rows

    @staticmethod
    def merge_safe(*_: Any, **__: Any) -> NoReturn:
        """Refuse: NotImplementedError, for the reason that REASON gives."""
        raise NotImplementedError(REASON)

    merge_unsafe = merge_safe
    unmerge = merge_safe


class OrthogonalLora(RoutedLora):
    """One that had an orthogonal start: less the frozen copy, under the same factors."""

    def compute_update(self, module: Any, adapter: str, x: Tensor) -> Tensor:
        """The update after all factors."""
        channels = not isinstance(module.lora_A[adapter], nn.Linear)
        ranks = partial(self.factors.compute_rank_factor, self.site, channels=channels)
        update = compute_orthogonal(module, adapter, module.lora_dropout[adapter](x), ranks)
        update = update * module.scaling[adapter]
        rows = self.factors.compute_row_factor(self.site, update, channels=channels)
        return update if rows is None else update * rows


def route(
    denoiser: nn.Module, streams: Streams, factors: Factors | None = None, adapter: str = ADAPTER
) -> Factors:
    """Let an adapter's update be multiplied; returns the factors, which may be changed at any time.

    Of several experts, all adapted ones share them. An adapter that is routed already keeps its
    factors unless others are given. CannotRoute for DoRA, LoHa and LoKr, and where there is none.
    """
    layers = [
        layer
        for model in experts_of(denoiser).values()
        for layer in _list_layers(unwrap_model(model))
        if adapter in getattr(layer, "lora_A", ()) or not isinstance(layer, LoraLayer)
    ]
    if not layers:
        raise CannotRoute(f"{type(denoiser).__name__} has no LoRA called {adapter!r} to route")
    for layer in layers:
        _check_layer(layer, adapter)
    if factors is None:
        factors = find_factors(denoiser, adapter) or Factors()
    for layer in layers:
        variant = layer.lora_variant.get(adapter)
        if variant is None:
            kind = OrthogonalLora if is_orthogonal(layer, adapter) else RoutedLora
            layer.lora_variant[adapter] = kind(factors)
        else:
            variant.factors = factors
    connect(denoiser, streams)
    return factors


def connect(denoiser: nn.Module, streams: Streams) -> None:
    """Tell every routed adapter on a denoiser where it is, and which call it is in.

    After layers were moved (adapters stacked around each other), and after `route`.
    """
    for expert in experts_of(denoiser).values():
        model = unwrap_model(expert)
        calls = None
        for path, layer in model.named_modules():
            for variant in getattr(layer, "lora_variant", {}).values():
                if isinstance(variant, RoutedLora):
                    calls = calls or follow_calls(model, streams)
                    name = path.replace(".base_layer", "")
                    variant.site = Site(name, streams.find(name), calls)


def find_factors(denoiser: nn.Module, adapter: str = ADAPTER) -> Factors | None:
    """The factors of the (outermost) adapter on a denoiser; None where it is not routed."""
    for expert in experts_of(denoiser).values():
        for layer in _list_layers(unwrap_model(expert)):
            variant = getattr(layer, "lora_variant", {}).get(adapter)
            if isinstance(variant, RoutedLora):
                return variant.factors
    return None


def is_scheduled(denoiser: nn.Module) -> bool:
    """Whether the ranks of some adapter on a denoiser follow the noise level."""
    variants = (
        variant
        for expert in experts_of(denoiser).values()
        for layer in _list_layers(unwrap_model(expert))
        for variant in getattr(layer, "lora_variant", {}).values()
    )
    return any(
        isinstance(variant, RoutedLora) and variant.factors.ranks is not None
        for variant in variants
    )


def _check_layer(layer: Any, adapter: str) -> None:
    if not isinstance(layer, LoraLayer):
        raise CannotRoute(
            f"a {type(layer).__module__.split('.')[-2]} adapter has no ranks between two factors"
            ' that act by noise level, word or place: use lora.kind = "lora"'
        )
    if adapter in layer.lora_magnitude_vector:
        raise CannotRoute(
            "a DoRA rescales the whole weight, which no factor on its update leaves right: use"
            ' lora.kind = "lora"'
        )
    variant = layer.lora_variant.get(adapter)
    if variant is not None and not isinstance(variant, RoutedLora):
        raise CannotRoute(f"{type(variant).__name__} is on this adapter already")


def _must_round(module: Any) -> bool:
    """Whether peft rounds the update to the base's precision before it adds it (bitsandbytes)."""
    return type(module).__module__ == "peft.tuners.lora.bnb" and not torch.is_autocast_enabled()


def _list_layers(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
