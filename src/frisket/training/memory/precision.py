"""How a denoiser and a VAE are run to take less: float8 storage, attention, compiling, tiles."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from frisket.adapters.routed.calls import run_checkpointed
from frisket.adapters.targets import LAYERS, unwrap_model
from frisket.families.blocks import blocks_of
from frisket.families.experts import experts_of

FLOAT8 = torch.float8_e4m3fn
SKIPPED = ("norm", "lora_", "hada_", "lokr_")
# Backends of diffusers' attention dispatcher that have a backward pass. The `sage*` ones have none:
# under autograd they return outputs that no gradient flows through.
TRAINABLE = (
    "native",
    "_native_flash",
    "_native_efficient",
    "_native_cudnn",
    "_native_math",
    "flash",
    "flash_hub",
    "_flash_3",
    "_flash_3_hub",
    "flex",
    "xformers",
)
# Those that have kernels for bfloat16 and float16 only.
HALF = ("_native_flash", "_native_cudnn", "flash", "flash_hub", "_flash_3", "_flash_3_hub")

# Of a block's compiled code: with and without gradient, adapter and routing, of one size or of any.
VARIANTS = 64


def check_attention(backend: str) -> None:
    """Raise ValueError for a backend that is not known, not installed, or not trainable through."""
    if backend and backend not in TRAINABLE:
        inference = "sage" in backend
        why = "is for inference only: it has no gradient" if inference else "is not known"
        raise ValueError(
            f'memory.attention = "{backend}" {why}. Choose one of: {", ".join(TRAINABLE)}'
        )
    if backend:
        _require_attention(backend)


def check_attention_dtype(backend: str, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ValueError where a backend has no kernel for the precision of the base on this device.

    Training itself may run under autocast, but validation and previews run in the base's own.
    """
    if backend in HALF and device.type == "cuda" and dtype == torch.float32:
        raise ValueError(
            f'memory.attention = "{backend}" has kernels for bfloat16 and float16 only, and the'
            ' base is float32: set model.dtype = "bfloat16", or leave memory.attention empty'
        )


def _require_attention(backend: str) -> None:
    """Raise ValueError where diffusers says that the package behind a backend is not here."""
    from diffusers.models import attention_dispatch  # noqa: PLC0415 - a slow import

    try:
        named = attention_dispatch.AttentionBackendName(backend)
        attention_dispatch._check_attention_backend_requirements(named)
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f'memory.attention = "{backend}" cannot be used here: {error} Or leave it empty: torch'
            " then chooses the fastest kernel it has"
        ) from error


def set_attention(denoiser: nn.Module, backend: str) -> None:
    """Choose diffusers' attention backend for every expert; "" leaves it as it is.

    ValueError for one that is not trainable, or where the model chooses its attention otherwise
    (the UNets do); the backend's own error where its package is not installed.
    """
    check_attention(backend)
    for expert in experts_of(denoiser).values() if backend else ():
        if not any(
            hasattr(_processor(module), "_attention_backend") for module in expert.modules()
        ):
            raise ValueError(
                f'memory.attention = "{backend}": {type(expert).__name__} does not use diffusers\''
                " attention dispatcher; leave it empty (torch chooses the fastest kernel itself)"
            )
        model: Any = expert
        with _others_unchanged():
            model.set_attention_backend(backend)


@contextmanager
def _others_unchanged() -> Iterator[None]:
    """Undo that diffusers makes the backend that of every other model of the process too.

    A VAE in float32 would else meet kernels that know bfloat16 alone.
    """
    from diffusers.models.attention_dispatch import (  # noqa: PLC0415 - a slow import
        _AttentionBackendRegistry,
    )

    registry: Any = _AttentionBackendRegistry
    before = registry._active_backend
    try:
        yield
    finally:
        registry._active_backend = before


def store_float8(denoiser: nn.Module, compute: torch.dtype) -> None:
    """Keep the frozen layers of the blocks in float8 (e4m3), widened to `compute` when called.

    diffusers' layer-wise casting, layer by layer. Norms, the adapter and what stands outside the
    blocks stay as they are (families look there for the precision to compute in). diffusers' call
    for a whole model also stops peft from fitting inputs to the adapter's float32. Needs gradient
    checkpointing to be of use: without, autograd keeps every widened weight.
    """
    from diffusers.hooks.layerwise_casting import (  # noqa: PLC0415 - a slow import
        apply_layerwise_casting_hook,
    )

    for expert in experts_of(denoiser).values():
        kept = getattr(expert, "_keep_in_fp32_modules", None) or ()
        theirs = getattr(expert, "_skip_layerwise_casting_patterns", None) or ()
        skipped = re.compile("|".join((*SKIPPED, *kept, *theirs)))
        for block, module in blocks_of(expert).items():
            for name, layer in list(module.named_modules()):
                bare = f"{block}.{name}".replace(".base_layer", "")
                if isinstance(layer, LAYERS) and not skipped.search(bare):
                    apply_layerwise_casting_hook(layer, FLOAT8, compute, non_blocking=False)


def share_inputs(denoiser: nn.Module) -> None:
    """Under autocast, let adapted layers use their input as it is, not a float32 copy of it each.

    peft widens the input of every adapter to the adapter's float32, and autocast narrows it again:
    the same numbers, but each layer keeps a copy of its own for the backward pass. Outside autocast
    (sampling) it goes on widening.
    """
    for layer in denoiser.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.cast_input_dtype_enabled = _UnlessAutocast()


class _UnlessAutocast:
    """False where autocast is on; peft asks for the truth of it in every call."""

    def __bool__(self) -> bool:
        return not (torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu"))


def checkpoint_blocks(denoiser: nn.Module) -> None:
    """Turn gradient checkpointing on in every expert; ValueError for a model that has none."""
    for name, expert in experts_of(denoiser).items():
        if not getattr(expert, "_supports_gradient_checkpointing", False):
            raise ValueError(
                f"memory.checkpointing: {type(expert).__name__} {name} cannot checkpoint; set it to"
                " false"
            )
        model: Any = expert
        model.enable_gradient_checkpointing(partial(run_checkpointed, unwrap_model(expert)))


def compile_blocks(denoiser: nn.Module, **options: Any) -> None:
    """torch.compile every block of every expert, in place; names and parameters stay the same.

    Block by block (regional compilation): the first block is compiled, the rest reuse it. `options`
    are torch.compile's. Its limit of variants is raised for all of the process where it is lower:
    beyond it torch goes on without compiling, after one warning.
    """
    dynamo: Any = torch._dynamo.config
    dynamo.recompile_limit = max(dynamo.recompile_limit, VARIANTS)
    for expert in experts_of(denoiser).values():
        for block in blocks_of(expert).values():
            block.compile(**options)


def tile(vae: nn.Module) -> None:
    """Let a VAE work in overlapping tiles that are blended; ValueError where it cannot."""
    model: Any = vae
    enable = getattr(model, "enable_tiling", None)
    if enable is None or getattr(model, "_supports_tiling", True) is False:
        raise ValueError(
            f"memory.tile_vae: {type(vae).__name__} cannot work in tiles; set it to false, or make"
            " the clips smaller ([[data]] resolution and frames)"
        )
    enable()


def _processor(module: nn.Module) -> Any:
    return getattr(module, "processor", None)
