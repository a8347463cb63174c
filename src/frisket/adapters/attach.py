"""The trained adapter on a denoiser: put on, taken off, silenced and scaled (peft's modules)."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.loaders.peft import PeftAdapterMixin
from peft import LoHaConfig, LoKrConfig, LoraConfig, PeftConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from frisket.adapters.control.net import silence_nets
from frisket.adapters.image.adapter import silence_pictures
from frisket.adapters.routed.calls import forget_calls
from frisket.adapters.routed.factors import Factors
from frisket.adapters.routed.orthogonal import start_orthogonal
from frisket.adapters.routed.peft_variant import find_factors, route
from frisket.adapters.spec import ADAPTER, LoraSpec
from frisket.adapters.targets import LAYERS, is_spatial, resolve, unwrap_model
from frisket.families.experts import experts_of
from frisket.families.streams import Streams
from frisket.families.whole_model import use_base

__all__ = [
    "attach",
    "detach",
    "frozen",
    "get_spec",
    "inject",
    "outputs_of",
    "set_strength",
    "trainable",
    "unwrap_model",
]

WHOLE = 1 << 20  # a rank that no factor reaches


def attach(
    denoiser: nn.Module, spec: LoraSpec, *, seed: int, streams: Streams | None = None
) -> tuple[str, ...]:
    """Freeze the denoiser and put a fresh adapter on it; returns the adapted modules' names.

    The output does not change until the adapter is trained. Only its parameters ask for a
    gradient, and they are float32 whatever the base is. Initial values are a function of `seed`
    and leave torch's global generators as they were. Of several experts each gets its own.
    ValueError for targets that hit nothing, a conv_rank that no layer is for, and where an adapter
    sits already.
    """
    layers = LAYERS[:3] if spec.kind in ("loha", "lokr") else LAYERS  # what peft has them for
    models = {name: unwrap_model(model) for name, model in experts_of(denoiser).items()}
    for model in models.values():
        _refuse_second(model)
    hit = {
        name: resolve(model, spec.targets, spec.exclude, layers, dead=spec.dead)
        for name, model in models.items()
    }
    if spec.conv_rank:
        _need_spatial(models, hit, spec.conv_rank)
    for name, model in models.items():
        inject(model, spec, hit[name], seed)
    follow_spec(denoiser, spec, streams)
    return tuple(
        f"experts.{name}.{module}" if name else module
        for name, modules in hit.items()
        for module in modules
    )


def check_streams(spec: LoraSpec, streams: Streams | None) -> None:
    """ValueError for an adapter that acts by noise level where nobody says what calls are about."""
    if (spec.ranks is not None or spec.orthogonal) and streams is None:
        raise ValueError(
            f"{spec.rank_schedule or 'an orthogonal start'}: the family's `streams` are needed,"
            " which read the noise level from a call of the denoiser: hand them over"
        )


def follow_spec(denoiser: nn.Module, spec: LoraSpec | None, streams: Streams | None) -> None:
    """Let the ranks of the adapter on a denoiser follow its schedule, where it has one."""
    if spec is not None and (spec.ranks is not None or spec.orthogonal):
        check_streams(spec, streams)
        assert streams is not None
        factors = find_factors(denoiser) or Factors()
        factors.ranks = spec.ranks
        route(denoiser, streams, factors)


def detach(denoiser: nn.Module) -> None:
    """Take the adapter off: the denoiser is what it was before `attach`, frozen."""
    for expert in experts_of(denoiser).values():
        model = unwrap_model(expert)
        for name, layer in list(model.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                parent, _, child = name.rpartition(".")
                setattr(model.get_submodule(parent), child, layer.get_base_layer())
        forget_calls(model)
        for attribute in ("peft_config", "frisket_spec"):
            model.__dict__.pop(attribute, None)
        if isinstance(model, PeftAdapterMixin):
            model._hf_peft_config_loaded = False


def get_spec(denoiser: nn.Module) -> LoraSpec | None:
    """The spec of the adapter on a denoiser (on any of its experts), None where there is none."""
    specs = (
        getattr(unwrap_model(model), "frisket_spec", None)
        for model in experts_of(denoiser).values()
    )
    return next((spec for spec in specs if spec is not None), None)


def trainable(denoiser: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that ask for a gradient, by name, in a fixed order."""
    model = unwrap_model(denoiser)
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


@contextmanager
def frozen(denoiser: nn.Module) -> Iterator[None]:
    """Inside, the denoiser is the base: adapter off, eval mode (no dropout); after, as it was.

    One that all weights of were trained is the base where `whole_model.lay_over` has kept it. A
    ControlNet that is trained adds nothing; one that is frozen is no part of the denoiser, and
    goes on.

    The prediction inside is the base's bit for bit. Gradient mode is left to the caller.
    """
    model = unwrap_model(denoiser)
    modules = list(model.modules())
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
        with use_base(model), silence_pictures(model), silence_nets(model):
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
    for layer in _list_tuned(unwrap_model(denoiser)):
        layer.set_scale(ADAPTER, strength)
        layer._disable_adapters = strength == 0


def outputs_of(denoiser: nn.Module) -> dict[str, int]:
    """Output size of every layer an adapter can go on, by name, with or without one on it."""
    sizes: dict[str, int] = {}
    inside = "\0"
    for name, module in unwrap_model(denoiser).named_modules():
        if name.startswith(inside):
            continue
        layer: Any = module
        if isinstance(module, BaseTunerLayer):
            inside, layer = f"{name}.", module.get_base_layer()
        if isinstance(layer, LAYERS):
            # Not the weight's shape: a quantised weight is packed.
            size = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
            sizes[name] = int(size)
    return sizes


def inject(model: nn.Module, spec: LoraSpec, names: Sequence[str], seed: int) -> None:
    """Put a fresh adapter on exactly these layers of one bare model."""
    _refuse_second(model)
    model.requires_grad_(False)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed CUDA as well
        inject_adapter_in_model(_config(model, spec, names), model, ADAPTER)
        for layer in _list_tuned(model) if spec.orthogonal else ():
            start_orthogonal(layer, ADAPTER)
    if isinstance(model, PeftAdapterMixin):
        model._hf_peft_config_loaded = True
    model.frisket_spec = spec  # type: ignore[assignment]
    for value in trainable(model).values():
        value.data = value.data.float()  # peft gives them the base's dtype
    if spec.kind == "lora":
        for layer in _list_tuned(model):
            _drop(layer, spec)
    if spec.kind == "dora":
        # Magnitudes taken in bfloat16 are off by up to 0.4 %: it would not start as the base.
        for layer in _list_tuned(model):
            layer.lora_magnitude_vector[ADAPTER].update_layer(
                base_layer=layer.get_base_layer(),
                lora_A=layer.lora_A[ADAPTER].weight,
                lora_B=layer.lora_B[ADAPTER].weight,
                scaling=layer.scaling[ADAPTER],
            )


def _list_tuned(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


def _config(model: nn.Module, spec: LoraSpec, names: Sequence[str]) -> PeftConfig:
    # At the rank of a whole factor peft leaves it whole; alpha / rank is then 1.
    rank = WHOLE if spec.full_matrix else spec.rank
    alpha: Any = rank if spec.full_matrix else spec.scale  # peft says int; it divides it as it is
    size: dict[str, Any] = {"r": rank, "target_modules": _targets(model, names)}
    if spec.conv_rank and not spec.full_matrix:
        own = spec.as_layer(spatial=True)
        there = [name for name in names if is_spatial(model.get_submodule(name))]
        # peft takes a pattern for the end of a name; ^ makes it all of it.
        size["rank_pattern"] = {f"^{re.escape(name)}": own.rank for name in there}
        size["alpha_pattern"] = {f"^{re.escape(name)}": own.scale for name in there}
    if spec.kind in ("loha", "lokr"):
        size["rank_dropout"] = spec.dropout or spec.rank_dropout
        size["module_dropout"] = spec.module_dropout
        if spec.kind == "loha":
            return LoHaConfig(alpha=alpha, **size)
        return LoKrConfig(alpha=alpha, decompose_factor=spec.factor, **size)
    dora = spec.kind == "dora"
    return LoraConfig(lora_alpha=alpha, lora_dropout=spec.dropout, use_dora=dora, **size)


def _drop(layer: Any, spec: LoraSpec) -> None:
    """What peft's loha and lokr can leave out by chance, for its lora: ranks, and whole layers."""

    def leave_ranks(module: nn.Module, _: Any, out: Tensor) -> Tensor:
        if not module.training:
            return out
        last = isinstance(module, nn.Linear)  # else channels follow the batch
        shape = [out.shape[0], *[1] * (out.ndim - 2), out.shape[-1]]
        if not last:
            shape = [*out.shape[:2], *[1] * (out.ndim - 2)]
        kept = torch.rand(shape, device=out.device) > spec.rank_dropout
        return out * kept / (1 - spec.rank_dropout)

    def leave_layer(module: nn.Module, _: Any, out: Tensor) -> Tensor:
        # Times zero, not left out: every parameter keeps a gradient, as several processes need.
        left = module.training and float(torch.rand(1)) < spec.module_dropout
        return out * 0 if left else out

    if spec.rank_dropout:
        layer.lora_A[ADAPTER].register_forward_hook(leave_ranks)
    if spec.module_dropout:
        layer.lora_B[ADAPTER].register_forward_hook(leave_layer)


def _targets(model: nn.Module, names: Sequence[str]) -> list[str] | str:
    """The names; one expression where peft, matching endings, would also hit `block.proj_out`."""
    wanted = set(names)
    others = (name.split(".") for name in outputs_of(model) if name not in wanted)
    endings = {".".join(parts[start:]) for parts in others for start in range(1, len(parts))}
    if endings & wanted:
        return "|".join(re.escape(name) for name in names)
    return list(names)


def _need_spatial(
    models: Mapping[str, nn.Module], hit: Mapping[str, Sequence[str]], rank: int
) -> None:
    layers = (models[name].get_submodule(layer) for name, names in hit.items() for layer in names)
    if not any(map(is_spatial, layers)):
        raise ValueError(
            f"lora.conv_rank = {rank}: no target is a convolution larger than 1 x 1; leave it out,"
            " or name such layers in lora.targets"
        )


def _refuse_second(model: nn.Module) -> None:
    there = list(getattr(model, "peft_config", {}))
    if there:
        raise ValueError(
            f"{type(model).__name__} has an adapter already ({', '.join(there)}): detach it first"
        )
