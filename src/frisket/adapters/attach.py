"""The trained adapter on a denoiser: put on, taken off, silenced and scaled (peft's modules)."""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.loaders.peft import PeftAdapterMixin
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from frisket.adapters.spec import ADAPTER, LoraSpec
from frisket.adapters.targets import LAYERS, resolve
from frisket.families.experts import experts_of


def attach(denoiser: nn.Module, spec: LoraSpec, *, seed: int) -> tuple[str, ...]:
    """Freeze the denoiser and put a fresh adapter on it; returns the adapted modules' names.

    The output does not change until the adapter is trained. Only its parameters ask for a
    gradient, and they are float32 whatever the base is. Initial values are a function of `seed`
    and leave torch's global generators as they were. Of several experts each gets its own.
    ValueError for targets that hit nothing and where an adapter sits already.
    """
    layers = LAYERS[:3] if spec.kind in ("loha", "lokr") else LAYERS  # what peft has them for
    models = {name: bare(model) for name, model in experts_of(denoiser).items()}
    for model in models.values():
        _refuse_second(model)
    hit = {
        name: resolve(model, spec.targets, spec.exclude, layers, dead=spec.dead)
        for name, model in models.items()
    }
    for name, model in models.items():
        inject(model, spec, hit[name], seed)
    return tuple(
        f"experts.{name}.{module}" if name else module
        for name, modules in hit.items()
        for module in modules
    )


def detach(denoiser: nn.Module) -> None:
    """Take the adapter off: the denoiser is what it was before `attach`, frozen."""
    for expert in experts_of(denoiser).values():
        model = bare(expert)
        for name, layer in list(model.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, layer.get_base_layer())
        for attribute in ("peft_config", "frisket_spec"):
            model.__dict__.pop(attribute, None)
        if isinstance(model, PeftAdapterMixin):
            model._hf_peft_config_loaded = False


def attached(denoiser: nn.Module) -> LoraSpec | None:
    """The spec of the adapter on a denoiser (on any of its experts), None where there is none."""
    specs = (getattr(bare(model), "frisket_spec", None) for model in experts_of(denoiser).values())
    return next((spec for spec in specs if spec is not None), None)


def trainable(denoiser: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that ask for a gradient, by name, in a fixed order."""
    model = bare(denoiser)
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


@contextmanager
def frozen(denoiser: nn.Module) -> Iterator[None]:
    """Inside, the denoiser is the base: adapter off, eval mode (no dropout); after, as it was.

    The prediction inside is the base's bit for bit. Gradient mode is left to the caller.
    """
    modules = list(bare(denoiser).modules())
    layers = [module for module in modules if isinstance(module, BaseTunerLayer)]
    modes = [module.training for module in modules]
    states = [layer._disable_adapters for layer in layers]
    try:
        for module in modules:
            module.training = False
        for layer in layers:
            # Not enable_adapters(False): it also clears requires_grad, and what is built on the
            # parameters (DistributedDataParallel, optimizers) would trip over that.
            layer._disable_adapters = True
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for layer, state in zip(layers, states, strict=True):
            layer._disable_adapters = state


def set_strength(denoiser: nn.Module, strength: float) -> None:
    """Scale the adapter's effect: 1 as trained, 0 the base bit for bit, beyond 1 exaggerates.

    DoRA's learned magnitudes do not scale, so between 0 and 1 its path is not a straight line.
    """
    if not math.isfinite(strength):
        raise ValueError(f"adapter strength must be a finite number, got {strength}")
    for layer in _tuned(bare(denoiser)):
        layer.set_scale(ADAPTER, strength)
        layer._disable_adapters = strength == 0


def bare(denoiser: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel and torch.compile."""
    inner = getattr(denoiser, "module", denoiser)
    model: nn.Module = getattr(inner, "_orig_mod", inner)
    return model


def outputs_of(denoiser: nn.Module) -> dict[str, int]:
    """Output size of every layer an adapter can go on, by name, with or without one on it."""
    found: dict[str, int] = {}
    inside = "\0"
    for name, module in bare(denoiser).named_modules():
        if name.startswith(inside):
            continue
        layer: Any = module
        if isinstance(module, BaseTunerLayer):
            inside, layer = f"{name}.", module.get_base_layer()
        if isinstance(layer, LAYERS):
            # Not the weight's shape: a quantised weight is packed.
            size = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
            found[name] = int(size)
    return found


def inject(model: nn.Module, spec: LoraSpec, names: Sequence[str], seed: int) -> None:
    """Put a fresh adapter on exactly these layers of one bare model."""
    _refuse_second(model)
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed CUDA as well
        inject_adapter_in_model(_config(model, spec, names), model, ADAPTER)
    if isinstance(model, PeftAdapterMixin):
        model._hf_peft_config_loaded = True
    model.frisket_spec = spec  # type: ignore[assignment]
    for value in trainable(model).values():
        value.data = value.data.float()  # peft gives them the base's dtype
    if spec.kind == "dora":
        # Magnitudes taken in bfloat16 are off by up to 0.4 %: it would not start as the base.
        for layer in _tuned(model):
            layer.lora_magnitude_vector[ADAPTER].update_layer(
                base_layer=layer.get_base_layer(),
                lora_A=layer.lora_A[ADAPTER].weight,
                lora_B=layer.lora_B[ADAPTER].weight,
                scaling=layer.scaling[ADAPTER],
            )


def _tuned(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def _config(model: nn.Module, spec: LoraSpec, names: Sequence[str]) -> PeftConfig:
    alpha: Any = spec.scale  # peft says int and divides it by the rank as it comes
    size: dict[str, Any] = {"r": spec.rank, "target_modules": _targets(model, names)}
    if spec.kind in ("loha", "lokr"):
        form = LoHaConfig if spec.kind == "loha" else LoKrConfig
        return form(alpha=alpha, rank_dropout=spec.dropout, **size)
    dora = spec.kind == "dora"
    return LoraConfig(lora_alpha=alpha, lora_dropout=spec.dropout, use_dora=dora, **size)


def _targets(model: nn.Module, names: Sequence[str]) -> list[str] | str:
    """The names; one expression where peft, matching endings, would also hit `block.proj_out`."""
    wanted = set(names)
    others = (name.split(".") for name in outputs_of(model) if name not in wanted)
    endings = {".".join(parts[start:]) for parts in others for start in range(1, len(parts))}
    if endings & wanted:
        return "|".join(re.escape(name) for name in names)
    return list(names)


def _refuse_second(model: nn.Module) -> None:
    there = list(getattr(model, "peft_config", {}))
    if there:
        raise ValueError(
            f"{type(model).__name__} has an adapter already ({', '.join(there)}): detach it first"
        )
